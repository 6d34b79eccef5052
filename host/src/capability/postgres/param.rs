//! Parameters, in the binary form of the types that Postgres inferred for the statement.

use sqlx::{
    Arguments, Either, Encode, Postgres, Statement, Type, TypeInfo,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgStatement, PgTypeInfo},
};

use super::{
    array, error, numeric,
    scalar::{EPOCH_DAYS, EPOCH_US, JSONB_VERSION, Scalar},
};
use crate::model::bindings::saga::plugin::{
    postgres::{Param, SqlError, Values},
    types::Uuid,
};

/// Encodes the parameters of one execution.
pub(super) fn arguments(params: &[Param], statement: &PgStatement) -> Result<PgArguments, SqlError> {
    let expected = match statement.parameters() {
        Some(Either::Left(types)) => types,
        _ => &[],
    };
    if expected.len() != params.len() {
        let message = format!("the statement has {} parameters, {} were given", expected.len(), params.len());
        return Err(error::of_host(error::TYPE, message));
    }
    let mut arguments = PgArguments::default();
    for (place, (param, info)) in params.iter().zip(expected).enumerate() {
        arguments.add(Bound { param, info }).map_err(|cause| refused(place + 1, param, info, cause))?;
    }
    Ok(arguments)
}

fn refused(number: usize, param: &Param, info: &PgTypeInfo, cause: BoxDynError) -> SqlError {
    let expected = info.name().to_lowercase();
    let (given, cast) = (name(param), cast(param));
    match cause.downcast_ref() {
        Some(Misfit::Type) => error::of_host(
            error::TYPE,
            format!(
                "${number} is {given}, but Postgres expects {expected}: pass what it expects, or cast in the \
                 statement: ${number}::{cast}::{expected}"
            ),
        ),
        Some(Misfit::Nulls) => error::of_host(
            error::TYPE,
            format!("the nulls of ${number} must ascend and be rows of the column"),
        ),
        Some(Misfit::Range) => {
            error::of_host("22003", format!("${number} has a value that is out of range for {expected}"))
        }
        Some(Misfit::Number) => error::of_host(
            "22P02",
            format!("${number} has a numeric that is not a decimal number such as -12.50, or is too long"),
        ),
        None => error::of_host("54000", format!("${number}: {cause}")),
    }
}

/// Why a value does not fit what Postgres expects.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misfit {
    #[error("of another type")]
    Type,
    #[error("out of range")]
    Range,
    #[error("not a decimal number")]
    Number,
    #[error("nulls that are not rows of the column")]
    Nulls,
}

/// A parameter and what Postgres expects in its place.
struct Bound<'a> {
    param: &'a Param,
    info: &'a PgTypeInfo,
}

impl Type<Postgres> for Bound<'_> {
    /// Never used: [`Encode::produces`] gives the type.
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Bound<'_> {
    fn encode_by_ref(&self, out: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match self.param {
            Param::Null => return Ok(IsNull::Yes),
            Param::Many(column) => {
                let (scalar, oid) = Scalar::of_elements(self.info).ok_or(Misfit::Type)?;
                array::write(column, scalar, oid, out)?;
            }
            one => {
                let scalar = Scalar::of(self.info).ok_or(Misfit::Type)?;
                datum(one).ok_or(Misfit::Type)?.write(scalar, out)?;
            }
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.info.clone())
    }
}

/// One value, as a parameter or as an element of an array.
#[derive(Clone, Copy)]
pub(super) enum Datum<'a> {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(Uuid),
    Timestamp(i64),
    Date(i32),
    Numeric(&'a str),
    Json(&'a str),
}

fn datum(param: &Param) -> Option<Datum<'_>> {
    Some(match param {
        Param::Boolean(value) => Datum::Boolean(*value),
        Param::Integer(value) => Datum::Integer(*value),
        Param::Float(value) => Datum::Float(*value),
        Param::Text(value) => Datum::Text(value),
        Param::Bytes(value) => Datum::Bytes(value),
        Param::Uuid(value) => Datum::Uuid(*value),
        Param::Timestamp(value) => Datum::Timestamp(*value),
        Param::Date(value) => Datum::Date(*value),
        Param::Numeric(value) => Datum::Numeric(value),
        Param::Json(value) => Datum::Json(value),
        Param::Null | Param::Many(_) => return None,
    })
}

impl Datum<'_> {
    /// Appends the binary form.
    #[inline]
    pub(super) fn write(self, scalar: Scalar, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match (self, scalar) {
            (Datum::Boolean(value), Scalar::Bool) => out.push(value.into()),
            (Datum::Integer(value), _) => integer(value, scalar, out)?,
            (Datum::Float(value), Scalar::Float8) => out.extend_from_slice(&value.to_be_bytes()),
            (Datum::Float(value), Scalar::Float4) => out.extend_from_slice(&single(value)?.to_be_bytes()),
            (Datum::Text(value), Scalar::Text) => out.extend_from_slice(value.as_bytes()),
            (Datum::Bytes(value), Scalar::Bytes) => out.extend_from_slice(value),
            (Datum::Uuid(value), Scalar::Uuid) => {
                out.extend_from_slice(&value.hi.to_be_bytes());
                out.extend_from_slice(&value.lo.to_be_bytes());
            }
            (Datum::Timestamp(value), Scalar::Timestamp) => {
                out.extend_from_slice(&timestamp(value)?.to_be_bytes())
            }
            (Datum::Date(value), Scalar::Date) => out.extend_from_slice(&date(value)?.to_be_bytes()),
            (Datum::Numeric(value), Scalar::Numeric) => numeric::write(value, out).ok_or(Misfit::Number)?,
            (Datum::Json(value), Scalar::Json) => out.extend_from_slice(value.as_bytes()),
            (Datum::Json(value), Scalar::Jsonb) => {
                out.push(JSONB_VERSION);
                out.extend_from_slice(value.as_bytes());
            }
            _ => return Err(Misfit::Type),
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "what Postgres does when it casts an integer to a float")]
fn integer(value: i64, scalar: Scalar, out: &mut Vec<u8>) -> Result<(), Misfit> {
    match scalar {
        Scalar::Int8 => out.extend_from_slice(&value.to_be_bytes()),
        Scalar::Int4 => {
            out.extend_from_slice(&i32::try_from(value).map_err(|_| Misfit::Range)?.to_be_bytes())
        }
        Scalar::Int2 => {
            out.extend_from_slice(&i16::try_from(value).map_err(|_| Misfit::Range)?.to_be_bytes())
        }
        Scalar::Float8 => out.extend_from_slice(&(value as f64).to_be_bytes()),
        Scalar::Float4 => out.extend_from_slice(&(value as f32).to_be_bytes()),
        Scalar::Numeric => numeric::write(&value.to_string(), out).ok_or(Misfit::Number)?,
        _ => return Err(Misfit::Type),
    }
    Ok(())
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounded to the nearest; what does not fit becomes infinite"
)]
fn single(value: f64) -> Result<f32, Misfit> {
    let rounded = value as f32;
    if rounded.is_infinite() && value.is_finite() { Err(Misfit::Range) } else { Ok(rounded) }
}

/// The ends of the type stand for Postgres's `infinity` and `-infinity`.
fn timestamp(value: i64) -> Result<i64, Misfit> {
    match value {
        i64::MIN | i64::MAX => Ok(value),
        _ => value.checked_sub(EPOCH_US).ok_or(Misfit::Range),
    }
}

fn date(value: i32) -> Result<i32, Misfit> {
    match value {
        i32::MIN | i32::MAX => Ok(value),
        _ => value.checked_sub(EPOCH_DAYS).ok_or(Misfit::Range),
    }
}

/// A parameter's kind, for a message.
fn name(param: &Param) -> &'static str {
    match param {
        Param::Null => "null",
        Param::Boolean(_) => "a boolean",
        Param::Integer(_) => "an integer",
        Param::Float(_) => "a float",
        Param::Text(_) => "a text",
        Param::Bytes(_) => "bytes",
        Param::Uuid(_) => "a uuid",
        Param::Timestamp(_) => "a timestamp",
        Param::Date(_) => "a date",
        Param::Numeric(_) => "a numeric",
        Param::Json(_) => "a json",
        Param::Many(column) => match column.values {
            Values::Booleans(_) => "many booleans",
            Values::Integers(_) => "many integers",
            Values::Floats(_) => "many floats",
            Values::Texts(_) => "many texts",
            Values::Bytes(_) => "many bytes",
            Values::Uuids(_) => "many uuids",
            Values::Timestamps(_) => "many timestamps",
            Values::Dates(_) => "many dates",
            Values::Numerics(_) => "many numerics",
            Values::Jsons(_) => "many jsons",
        },
    }
}

/// A type that every value of the parameter fits.
fn cast(param: &Param) -> &'static str {
    match param {
        Param::Null | Param::Text(_) => "text",
        Param::Boolean(_) => "boolean",
        Param::Integer(_) => "bigint",
        Param::Float(_) => "float8",
        Param::Bytes(_) => "bytea",
        Param::Uuid(_) => "uuid",
        Param::Timestamp(_) => "timestamptz",
        Param::Date(_) => "date",
        Param::Numeric(_) => "numeric",
        Param::Json(_) => "jsonb",
        Param::Many(column) => match column.values {
            Values::Booleans(_) => "boolean[]",
            Values::Integers(_) => "bigint[]",
            Values::Floats(_) => "float8[]",
            Values::Texts(_) => "text[]",
            Values::Bytes(_) => "bytea[]",
            Values::Uuids(_) => "uuid[]",
            Values::Timestamps(_) => "timestamptz[]",
            Values::Dates(_) => "date[]",
            Values::Numerics(_) => "numeric[]",
            Values::Jsons(_) => "jsonb[]",
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Datum, Misfit, Scalar};

    fn written(datum: Datum<'_>, scalar: Scalar) -> Result<Vec<u8>, Misfit> {
        let mut out = Vec::new();
        datum.write(scalar, &mut out).map(|()| out)
    }

    #[test]
    fn a_value_takes_the_form_that_postgres_expects() {
        for (datum, scalar, bytes) in [
            (Datum::Boolean(true), Scalar::Bool, &[1][..]),
            (Datum::Integer(-2), Scalar::Int2, &[0xff, 0xfe]),
            (Datum::Integer(7), Scalar::Int4, &[0, 0, 0, 7]),
            (Datum::Integer(7), Scalar::Int8, &[0, 0, 0, 0, 0, 0, 0, 7]),
            (Datum::Integer(1), Scalar::Float4, &[0x3f, 0x80, 0, 0]),
            (Datum::Integer(10_000), Scalar::Numeric, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 1]),
            (Datum::Text("é"), Scalar::Text, "é".as_bytes()),
            (Datum::Json("{}"), Scalar::Jsonb, b"\x01{}"),
            (Datum::Timestamp(946_684_800_000_001), Scalar::Timestamp, &[0, 0, 0, 0, 0, 0, 0, 1]),
            (Datum::Timestamp(i64::MAX), Scalar::Timestamp, &i64::MAX.to_be_bytes()),
            (Datum::Date(10_958), Scalar::Date, &[0, 0, 0, 1]),
        ] {
            assert_eq!(written(datum, scalar).unwrap(), bytes, "{scalar:?}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        assert!(matches!(written(Datum::Integer(32_768), Scalar::Int2), Err(Misfit::Range)));
        assert!(matches!(written(Datum::Integer(1 << 31), Scalar::Int4), Err(Misfit::Range)));
        assert!(matches!(written(Datum::Float(1e300), Scalar::Float4), Err(Misfit::Range)));
        assert!(matches!(written(Datum::Timestamp(i64::MIN + 1), Scalar::Timestamp), Err(Misfit::Range)));
        assert!(matches!(written(Datum::Numeric("x"), Scalar::Numeric), Err(Misfit::Number)));
        assert!(matches!(written(Datum::Integer(1), Scalar::Text), Err(Misfit::Type)));
        assert!(matches!(written(Datum::Text("1"), Scalar::Int4), Err(Misfit::Type)));
    }
}
