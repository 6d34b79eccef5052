//! A result by columns: each value is read from the wire's bytes and appended to its column.

use sqlx::{
    Column as _, Row, TypeInfo, ValueRef,
    postgres::{PgColumn, PgRow},
};

use super::{
    SqlLimits, error, numeric,
    scalar::{EPOCH_DAYS, EPOCH_US, JSONB_VERSION, Scalar},
};
use crate::model::bindings::saga::plugin::{
    postgres::{Column, SqlError, Table, Values},
    types::Uuid,
};

/// Memory of a list or a string in the guest besides its content.
const LIST_BYTES: usize = 8;

/// The columns of a result that is being read.
pub(super) struct Columns {
    table: Table,
    bytes: usize,
}

impl Columns {
    /// Empty columns for a statement's result. SG004 where a type is not supported, before the statement
    /// runs.
    pub(super) fn new(columns: &[PgColumn]) -> Result<Self, SqlError> {
        let mut table = Table { rows: 0, names: Vec::with_capacity(columns.len()), columns: Vec::new() };
        for column in columns {
            let scalar = Scalar::of(column.type_info()).ok_or_else(|| unsupported(column))?;
            table.columns.push(Column { values: empty(scalar), nulls: Vec::new() });
            table.names.push(column.name().to_owned());
        }
        Ok(Self { table, bytes: 0 })
    }

    /// Appends a row. SG001 or SG002 over a limit.
    pub(super) fn push(&mut self, row: &PgRow, limits: &SqlLimits) -> Result<(), SqlError> {
        if self.table.rows >= limits.rows_max {
            let message =
                format!("more than {} rows (rows_max); page, or raise it in the policy", limits.rows_max);
            return Err(error::of_host(error::ROWS, message));
        }
        for (place, column) in self.table.columns.iter_mut().enumerate() {
            let value = row.try_get_raw(place).map_err(|error| unreadable(place, &error))?;
            self.bytes += match value.is_null() {
                true => push_null(column, self.table.rows),
                false => {
                    let bytes = value.as_bytes().map_err(|error| unreadable(place, &error))?;
                    push(&mut column.values, bytes).ok_or_else(|| unreadable(place, &"not of its type"))?
                }
            };
        }
        if self.bytes > limits.result_bytes_max {
            let message = format!(
                "more than {} bytes (result_bytes_max); page, select fewer columns, or raise it in the \
                 policy",
                limits.result_bytes_max
            );
            return Err(error::of_host(error::BYTES, message));
        }
        self.table.rows += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> Table {
        self.table
    }
}

fn unsupported(column: &PgColumn) -> SqlError {
    let (name, found) = (column.name(), column.type_info().name().to_lowercase());
    let message =
        format!("column {} ({name}) is {found}: add a cast, such as {name}::text", column.ordinal() + 1);
    error::of_host(error::TYPE, message)
}

fn unreadable(place: usize, why: &dyn std::fmt::Display) -> SqlError {
    error::of_host("XX000", format!("column {} cannot be read: {why}", place + 1))
}

pub(super) fn empty(scalar: Scalar) -> Values {
    match scalar {
        Scalar::Bool => Values::Booleans(Vec::new()),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => Values::Integers(Vec::new()),
        Scalar::Float4 | Scalar::Float8 => Values::Floats(Vec::new()),
        Scalar::Text => Values::Texts(Vec::new()),
        Scalar::Bytes => Values::Bytes(Vec::new()),
        Scalar::Uuid => Values::Uuids(Vec::new()),
        Scalar::Timestamp => Values::Timestamps(Vec::new()),
        Scalar::Date => Values::Dates(Vec::new()),
        Scalar::Numeric => Values::Numerics(Vec::new()),
        Scalar::Json | Scalar::Jsonb => Values::Jsons(Vec::new()),
    }
}

/// Appends a placeholder, and the row to the nulls. Returns the bytes that this takes in the guest.
fn push_null(column: &mut Column, row: u32) -> usize {
    column.nulls.push(row);
    size_of::<u32>()
        + match &mut column.values {
            Values::Booleans(list) => fixed(list, false),
            Values::Integers(list) | Values::Timestamps(list) => fixed(list, 0),
            Values::Floats(list) => fixed(list, 0.0),
            Values::Texts(list) | Values::Numerics(list) | Values::Jsons(list) => {
                sized(list, String::new(), 0)
            }
            Values::Bytes(list) => sized(list, Vec::new(), 0),
            Values::Uuids(list) => fixed(list, Uuid { hi: 0, lo: 0 }),
            Values::Dates(list) => fixed(list, 0),
        }
}

/// Appends a value in its binary form. The length gives the width of integers and floats. The first byte
/// distinguishes jsonb from json, since no JSON starts with it. Returns the bytes that the value takes in the
/// guest.
#[inline]
pub(super) fn push(values: &mut Values, bytes: &[u8]) -> Option<usize> {
    Some(match values {
        Values::Booleans(list) => fixed(list, *bytes.first()? != 0),
        Values::Integers(list) => fixed(list, integer(bytes)?),
        Values::Floats(list) => fixed(list, float(bytes)?),
        Values::Texts(list) => sized(list, text(bytes)?, bytes.len()),
        Values::Bytes(list) => sized(list, bytes.to_vec(), bytes.len()),
        Values::Uuids(list) => {
            let (hi, lo) = bytes.split_first_chunk()?;
            fixed(list, Uuid { hi: u64::from_be_bytes(*hi), lo: u64::from_be_bytes(lo.try_into().ok()?) })
        }
        Values::Timestamps(list) => fixed(list, timestamp(i64::from_be_bytes(bytes.try_into().ok()?))),
        Values::Dates(list) => fixed(list, date(i32::from_be_bytes(bytes.try_into().ok()?))),
        Values::Numerics(list) => {
            let text = numeric::read(bytes)?;
            let length = text.len();
            sized(list, text, length)
        }
        Values::Jsons(list) => {
            let json = bytes.strip_prefix(&[JSONB_VERSION]).unwrap_or(bytes);
            sized(list, text(json)?, json.len())
        }
    })
}

fn fixed<T>(list: &mut Vec<T>, value: T) -> usize {
    list.push(value);
    size_of::<T>()
}

fn sized<T>(list: &mut Vec<T>, value: T, length: usize) -> usize {
    list.push(value);
    LIST_BYTES + length
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        8 => bytes.try_into().ok().map(i64::from_be_bytes),
        4 => bytes.try_into().ok().map(|four| i32::from_be_bytes(four).into()),
        _ => bytes.try_into().ok().map(|two| i16::from_be_bytes(two).into()),
    }
}

fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        8 => bytes.try_into().ok().map(f64::from_be_bytes),
        _ => bytes.try_into().ok().map(|four| f32::from_be_bytes(four).into()),
    }
}

/// `infinity` and `-infinity` are the ends of the type, on both sides.
fn timestamp(value: i64) -> i64 {
    if value == i64::MIN { value } else { value.saturating_add(EPOCH_US) }
}

fn date(value: i32) -> i32 {
    if value == i32::MIN { value } else { value.saturating_add(EPOCH_DAYS) }
}

#[cfg(test)]
mod tests {
    use super::{Column, Scalar, Values, empty, push, push_null};

    #[test]
    fn values_of_every_width() {
        let mut values = empty(Scalar::Int4);
        assert_eq!(push(&mut values, &[0xff, 0xfe]), Some(8));
        assert_eq!(push(&mut values, &[0, 0, 0, 7]), Some(8));
        assert_eq!(push(&mut values, &[0, 0, 0, 0, 0, 0, 0, 9]), Some(8));
        assert_eq!(push(&mut values, &[1, 2, 3]), None);
        assert!(matches!(values, Values::Integers(list) if list == [-2, 7, 9]));

        let mut values = empty(Scalar::Float4);
        assert_eq!(push(&mut values, &1.5_f32.to_be_bytes()), Some(8));
        assert_eq!(push(&mut values, &2.5_f64.to_be_bytes()), Some(8));
        assert!(matches!(values, Values::Floats(list) if list == [1.5, 2.5]));

        let mut values = empty(Scalar::Jsonb);
        assert_eq!(push(&mut values, b"\x01[1]"), Some(11));
        assert_eq!(push(&mut values, b"{}"), Some(10));
        assert_eq!(push(&mut values, b"\xff"), None);
        assert!(matches!(values, Values::Jsons(list) if list == ["[1]", "{}"]));

        let mut values = empty(Scalar::Timestamp);
        for value in [1, i64::MAX, i64::MIN] {
            assert_eq!(push(&mut values, &value.to_be_bytes()), Some(8));
        }
        assert!(
            matches!(values, Values::Timestamps(list) if list == [946_684_800_000_001, i64::MAX, i64::MIN])
        );
    }

    #[test]
    fn a_null_keeps_its_place() {
        let mut column = Column { values: empty(Scalar::Text), nulls: Vec::new() };
        assert_eq!(push(&mut column.values, b"a"), Some(9));
        assert_eq!(push_null(&mut column, 1), 12);
        assert_eq!(column.nulls, [1]);
        assert!(matches!(column.values, Values::Texts(list) if list == ["a", ""]));
    }
}
