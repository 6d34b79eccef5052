//! Fuzzing: values of any bytes and type, on their way from the wire to the guest and from the guest to the
//! wire.

use super::{column, param::Datum, scalar::Scalar};
use crate::model::bindings::saga::plugin::postgres::Values;

const SCALARS: [Scalar; 14] = [
    Scalar::Bool,
    Scalar::Int2,
    Scalar::Int4,
    Scalar::Int8,
    Scalar::Float4,
    Scalar::Float8,
    Scalar::Text,
    Scalar::Bytes,
    Scalar::Uuid,
    Scalar::Timestamp,
    Scalar::Date,
    Scalar::Numeric,
    Scalar::Json,
    Scalar::Jsonb,
];

/// The first byte chooses a type, the rest is a value as it comes over the wire. Once it was read and written, it
/// is as Postgres sends it: then it stays the same, however often it is read and written.
pub fn values(data: &[u8]) {
    let Some((choice, wire)) = data.split_first() else { return };
    let scalar = SCALARS[usize::from(*choice) % SCALARS.len()];
    // Valid JSON never starts with the byte that precedes a jsonb.
    if matches!((scalar, wire), (Scalar::Json, [1, ..])) {
        return;
    }
    let Some(value) = written(scalar, wire).and_then(|wire| read(scalar, &wire)) else { return };
    let again = write(scalar, &value).and_then(|wire| read(scalar, &wire));
    assert_eq!(again.map(|again| format!("{again:?}")), Some(format!("{value:?}")), "{scalar:?} {wire:?}");
}

fn written(scalar: Scalar, wire: &[u8]) -> Option<Vec<u8>> {
    write(scalar, &read(scalar, wire)?)
}

fn write(scalar: Scalar, value: &Values) -> Option<Vec<u8>> {
    let mut written = Vec::new();
    datum(value)?.write(scalar, &mut written).ok()?;
    Some(written)
}

fn read(scalar: Scalar, wire: &[u8]) -> Option<Values> {
    let mut values = column::empty(scalar);
    column::push(&mut values, wire).map(|_bytes| values)
}

/// The only value of a column.
fn datum(values: &Values) -> Option<Datum<'_>> {
    Some(match values {
        Values::Booleans(list) => Datum::Boolean(*list.first()?),
        Values::Integers(list) => Datum::Integer(*list.first()?),
        Values::Floats(list) => Datum::Float(*list.first()?),
        Values::Texts(list) => Datum::Text(list.first()?),
        Values::Bytes(list) => Datum::Bytes(list.first()?),
        Values::Uuids(list) => Datum::Uuid(*list.first()?),
        Values::Timestamps(list) => Datum::Timestamp(*list.first()?),
        Values::Dates(list) => Datum::Date(*list.first()?),
        Values::Numerics(list) => Datum::Numeric(list.first()?),
        Values::Jsons(list) => Datum::Json(list.first()?),
    })
}
