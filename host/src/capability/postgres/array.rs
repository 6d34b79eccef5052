//! A column as a one-dimensional array, in the binary form of Postgres's `array_send`.

use super::{
    param::{Datum, Misfit},
    scalar::Scalar,
};
use crate::model::bindings::saga::plugin::postgres::{Column, Values};

const NULL: i32 = -1;

/// Appends `column` as an array of `scalar`, whose type has this OID. A column without any value
/// fits every type of array.
pub(super) fn write(column: &Column, scalar: Scalar, oid: u32, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut array = Array { scalar, oid, nulls: &column.nulls, out };
    match &column.values {
        Values::Booleans(list) => array.write(list.iter().map(|value| Datum::Boolean(*value))),
        Values::Integers(list) => array.write(list.iter().map(|value| Datum::Integer(*value))),
        Values::Floats(list) => array.write(list.iter().map(|value| Datum::Float(*value))),
        Values::Texts(list) => array.write(list.iter().map(|value| Datum::Text(value))),
        Values::Bytes(list) => array.write(list.iter().map(|value| Datum::Bytes(value))),
        Values::Uuids(list) => array.write(list.iter().map(|value| Datum::Uuid(*value))),
        Values::Timestamps(list) => array.write(list.iter().map(|value| Datum::Timestamp(*value))),
        Values::Dates(list) => array.write(list.iter().map(|value| Datum::Date(*value))),
        Values::Numerics(list) => array.write(list.iter().map(|value| Datum::Numeric(value))),
        Values::Jsons(list) => array.write(list.iter().map(|value| Datum::Json(value))),
    }
}

struct Array<'a> {
    scalar: Scalar,
    oid: u32,
    /// Those that are still to come.
    nulls: &'a [u32],
    out: &'a mut Vec<u8>,
}

impl Array<'_> {
    fn write<'d>(&mut self, items: impl ExactSizeIterator<Item = Datum<'d>>) -> Result<(), Misfit> {
        let length = i32::try_from(items.len()).map_err(|_| Misfit::Range)?;
        self.out.reserve(20 + items.len() * 12);
        self.int(i32::from(length > 0));
        self.int(i32::from(!self.nulls.is_empty()));
        self.out.extend_from_slice(&self.oid.to_be_bytes());
        if length > 0 {
            self.int(length);
            self.int(1);
        }
        for (row, item) in (0_u32..).zip(items) {
            match self.nulls.split_first() {
                Some((null, rest)) if *null == row => {
                    self.nulls = rest;
                    self.int(NULL);
                }
                _ => self.element(item)?,
            }
        }
        if self.nulls.is_empty() { Ok(()) } else { Err(Misfit::Nulls) }
    }

    fn element(&mut self, item: Datum<'_>) -> Result<(), Misfit> {
        let start = self.out.len();
        self.int(0);
        item.write(self.scalar, self.out)?;
        let length = i32::try_from(self.out.len() - start - 4).map_err(|_| Misfit::Range)?;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn int(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Column, Misfit, Scalar, Values, write};

    fn written(values: Values, nulls: Vec<u32>) -> Result<Vec<u8>, Misfit> {
        let mut out = Vec::new();
        write(&Column { values, nulls }, Scalar::Int4, 23, &mut out).map(|()| out)
    }

    #[test]
    fn elements_have_lengths_and_nulls_have_none() {
        let bytes = written(Values::Integers(vec![5, 0, 6]), vec![1]).unwrap();
        let head = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 3, 0, 0, 0, 1];
        let body = [0, 0, 0, 4, 0, 0, 0, 5, 255, 255, 255, 255, 0, 0, 0, 4, 0, 0, 0, 6];
        assert_eq!(bytes, [head, body].concat());
        assert_eq!(written(Values::Integers(vec![]), vec![]).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23]);
    }

    #[test]
    fn null_rows_ascend_within_the_column() {
        for nulls in [vec![2], vec![1, 0], vec![0, 0], vec![0, 1, 2]] {
            assert!(matches!(written(Values::Integers(vec![1, 2]), nulls), Err(Misfit::Nulls)));
        }
        assert!(matches!(written(Values::Texts(vec!["a".into()]), vec![]), Err(Misfit::Type)));
    }
}
