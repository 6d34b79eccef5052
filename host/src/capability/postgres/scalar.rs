//! The types of Postgres that a guest can send and receive, by their binary form.

use sqlx::{
    TypeInfo,
    postgres::{PgTypeInfo, PgTypeKind},
};

/// Microseconds from 1970-01-01 to 2000-01-01, where Postgres counts from.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;
/// Days from 1970-01-01 to 2000-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// First byte of a jsonb.
pub(super) const JSONB_VERSION: u8 = 1;

/// One binary form; several types may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Bytes,
    Uuid,
    /// timestamptz, and timestamp as UTC
    Timestamp,
    Date,
    Numeric,
    Json,
    Jsonb,
}

impl Scalar {
    /// None for a type that does not cross.
    pub(super) fn of(info: &PgTypeInfo) -> Option<Self> {
        Some(match info.oid()?.0 {
            16 => Self::Bool,
            21 => Self::Int2,
            23 => Self::Int4,
            20 => Self::Int8,
            700 => Self::Float4,
            701 => Self::Float8,
            // name, text, bpchar, varchar
            19 | 25 | 1042 | 1043 => Self::Text,
            17 => Self::Bytes,
            2950 => Self::Uuid,
            1114 | 1184 => Self::Timestamp,
            1082 => Self::Date,
            1700 => Self::Numeric,
            114 => Self::Json,
            3802 => Self::Jsonb,
            _ => return Self::of_kind(info),
        })
    }

    fn of_kind(info: &PgTypeInfo) -> Option<Self> {
        match kind(info)? {
            PgTypeKind::Enum(_) => Some(Self::Text),
            PgTypeKind::Domain(base) => Self::of(base),
            PgTypeKind::Simple if info.name().rsplit('.').next() == Some("citext") => Some(Self::Text),
            _ => None,
        }
    }

    /// The form of an array's elements and their type's OID.
    pub(super) fn of_elements(info: &PgTypeInfo) -> Option<(Self, u32)> {
        match kind(info)? {
            PgTypeKind::Array(element) => Some((Self::of(element)?, element.oid()?.0)),
            PgTypeKind::Domain(base) => Self::of_elements(base),
            _ => None,
        }
    }
}

/// What sqlx knows of a type; it panics when asked for the kind of one that it could not look up
/// (dropped meanwhile), whose name is `?`.
fn kind(info: &PgTypeInfo) -> Option<&PgTypeKind> {
    (info.name() != "?").then(|| info.kind())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use sqlx::{
        Type,
        postgres::{PgTypeInfo, types::Oid},
    };

    use super::Scalar;

    #[test]
    fn built_in_types() {
        let of = |info: PgTypeInfo| Scalar::of(&info);
        assert_eq!(of(<i16 as Type<sqlx::Postgres>>::type_info()), Some(Scalar::Int2));
        assert_eq!(of(<String as Type<sqlx::Postgres>>::type_info()), Some(Scalar::Text));
        assert_eq!(of(<Vec<i64> as Type<sqlx::Postgres>>::type_info()), None);
        assert_eq!(
            Scalar::of_elements(&<Vec<i64> as Type<sqlx::Postgres>>::type_info()),
            Some((Scalar::Int8, 20))
        );
        assert_eq!(of(PgTypeInfo::with_oid(Oid(999_999))), None);
    }
}
