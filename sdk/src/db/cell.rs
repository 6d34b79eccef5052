//! Rust values as SQL parameters: one, or a column of many.

use crate::{
    bindings::saga::plugin::postgres::{Column, Param, Values},
    timestamp::Timestamp,
    uuid::Uuid,
};

/// A Rust type that stands for a column type of Postgres.
pub trait Cell: Sized {
    /// The value as a single parameter.
    fn param(self) -> Param;
    /// The values as a column.
    fn values(cells: Vec<Self>) -> Values;
    /// The value that stands in a column where a row is NULL.
    fn placeholder() -> Self;
    /// Reads a column; `None` where it has another type or a number is out of range.
    fn cells(values: Values) -> Option<Vec<Self>>;
}

/// One value as a parameter.
pub fn one<T: Cell>(value: T) -> Param {
    value.param()
}

/// SQL NULL as a parameter.
#[must_use]
pub fn null() -> Param {
    Param::Null
}

/// A column of values, for `= ANY ($1)` and `unnest($1)`.
pub fn many<T: Cell>(values: impl IntoIterator<Item = T>) -> Param {
    Param::Many(Column { values: T::values(values.into_iter().collect()), nulls: Vec::new() })
}

/// A column of values, NULL where a value is `None`.
pub fn many_or_null<T: Cell>(values: impl IntoIterator<Item = Option<T>>) -> Param {
    let mut nulls = Vec::new();
    let cells = values.into_iter().zip(0..).map(|(value, row)| {
        value.unwrap_or_else(|| {
            nulls.push(row);
            T::placeholder()
        })
    });
    let values = T::values(cells.collect());
    Param::Many(Column { values, nulls })
}

macro_rules! cell {
    ($type:ty, $param:ident, $values:ident, $placeholder:expr, $to:expr, $from:expr) => {
        impl Cell for $type {
            fn param(self) -> Param {
                Param::$param($to(self))
            }

            fn values(cells: Vec<Self>) -> Values {
                Values::$values(cells.into_iter().map($to).collect())
            }

            fn placeholder() -> Self {
                $placeholder
            }

            fn cells(values: Values) -> Option<Vec<Self>> {
                let Values::$values(values) = values else { return None };
                values.into_iter().map($from).collect()
            }
        }
    };
}

cell!(bool, Boolean, Booleans, false, |value| value, Some);
cell!(i16, Integer, Integers, 0, i64::from, |value| i16::try_from(value).ok());
cell!(i32, Integer, Integers, 0, i64::from, |value| i32::try_from(value).ok());
cell!(i64, Integer, Integers, 0, |value| value, Some);
cell!(f64, Float, Floats, 0.0, |value| value, Some);
cell!(String, Text, Texts, String::new(), |value| value, Some);
cell!(Vec<u8>, Bytes, Bytes, Vec::new(), |value| value, Some);
cell!(Uuid, Uuid, Uuids, Uuid(0), |value: Uuid| value.into(), |value| Some(Uuid::from(value)));
cell!(Timestamp, Timestamp, Timestamps, Timestamp(0), |value: Timestamp| value.0, |value| Some(Timestamp(
    value
)));

#[cfg(test)]
#[allow(clippy::panic, reason = "a test may panic")]
mod tests {
    use super::{Param, Values, many_or_null};

    #[test]
    fn nulls_are_row_numbers() {
        let Param::Many(column) = many_or_null([None, Some(5_i32), None]) else { panic!("a column") };
        assert_eq!(column.nulls, [0, 2]);
        assert!(matches!(column.values, Values::Integers(values) if values == [0, 5, 0]));
    }
}
