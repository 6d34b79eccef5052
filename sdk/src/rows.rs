//! The rows that a batch has loaded and will store, in memory. A change can be taken back until it is kept,
//! so one delivery of a batch can fail alone.

use std::collections::{BTreeMap, BTreeSet};

/// Rows of a batch. Tuples of rows are rows.
pub trait Rows {
    /// Makes the changes since the last `keep` or `undo` final.
    fn keep(&mut self);
    /// Takes the changes since the last `keep` or `undo` back.
    fn undo(&mut self);
    /// Whether there is anything to store.
    fn is_changed(&self) -> bool;
}

/// Rows by key, each key once.
#[derive(Clone, Debug)]
pub struct Table<K, R> {
    rows: BTreeMap<K, TableRow<R>>,
    changes: Vec<(K, Option<TableRow<R>>)>,
}

#[derive(Clone, Debug)]
struct TableRow<R> {
    value: R,
    changed: bool,
}

impl<K: Ord + Clone, R> Table<K, R> {
    /// The row of this key.
    pub fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// Inserts or replaces a row; it will be stored.
    pub fn set(&mut self, key: K, value: R) {
        let before = self.rows.insert(key.clone(), TableRow { value, changed: true });
        self.changes.push((key, before));
    }

    /// The rows to store, in key order.
    pub fn changed(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter().filter(|(_, row)| row.changed).map(|(key, row)| (key, &row.value))
    }
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), changes: Vec::new() }
    }
}

impl<K: Ord, R> FromIterator<(K, R)> for Table<K, R> {
    fn from_iter<I: IntoIterator<Item = (K, R)>>(rows: I) -> Self {
        let rows = rows.into_iter().map(|(key, value)| (key, TableRow { value, changed: false })).collect();
        Self { rows, changes: Vec::new() }
    }
}

impl<K: Ord + Clone, R> Rows for Table<K, R> {
    fn keep(&mut self) {
        self.changes.clear();
    }

    fn undo(&mut self) {
        while let Some((key, before)) = self.changes.pop() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }

    fn is_changed(&self) -> bool {
        self.rows.values().any(|row| row.changed)
    }
}

/// Rows that are only added, such as events.
#[derive(Clone, Debug)]
pub struct Added<R> {
    rows: Vec<R>,
    kept: usize,
}

impl<R> Added<R> {
    /// Adds a row; it will be stored.
    pub fn add(&mut self, row: R) {
        self.rows.push(row);
    }

    /// The rows to store, in the order added.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.rows.iter()
    }
}

impl<R> Default for Added<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), kept: 0 }
    }
}

impl<R> Rows for Added<R> {
    fn keep(&mut self) {
        self.kept = self.rows.len();
    }

    fn undo(&mut self) {
        self.rows.truncate(self.kept);
    }

    fn is_changed(&self) -> bool {
        !self.rows.is_empty()
    }
}

/// Keys that the batch has claimed in the database (`INSERT … ON CONFLICT DO NOTHING RETURNING key`). The
/// first input of a key takes its claim. That stores nothing: the key is inserted already.
#[derive(Clone, Debug)]
pub struct Claims<K> {
    free: BTreeSet<K>,
    taken: Vec<K>,
}

impl<K: Ord + Clone> Claims<K> {
    /// Takes the claim of a key; false where the key was not claimed, or is taken.
    pub fn take(&mut self, key: &K) -> bool {
        let taken = self.free.take(key);
        let first = taken.is_some();
        self.taken.extend(taken);
        first
    }
}

impl<K: Ord> FromIterator<K> for Claims<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        Self { free: keys.into_iter().collect(), taken: Vec::new() }
    }
}

impl<K: Ord + Clone> Rows for Claims<K> {
    fn keep(&mut self) {
        self.taken.clear();
    }

    fn undo(&mut self) {
        self.free.extend(self.taken.drain(..));
    }

    fn is_changed(&self) -> bool {
        false
    }
}

impl Rows for () {
    fn keep(&mut self) {}

    fn undo(&mut self) {}

    fn is_changed(&self) -> bool {
        false
    }
}

impl<A: Rows, B: Rows> Rows for (A, B) {
    fn keep(&mut self) {
        self.0.keep();
        self.1.keep();
    }

    fn undo(&mut self) {
        self.0.undo();
        self.1.undo();
    }

    fn is_changed(&self) -> bool {
        self.0.is_changed() || self.1.is_changed()
    }
}

/// The distinct keys of a batch, ascending: the rows to load, in the order to lock them.
pub fn keys<T, K: Ord>(inputs: &[T], key: impl Fn(&T) -> K) -> Vec<K> {
    let mut keys: Vec<K> = inputs.iter().map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::{Added, Claims, Rows, Table, keys};

    #[test]
    fn a_table_goes_back_to_what_was_kept() {
        let mut table = Table::from_iter([(1, "a"), (2, "b")]);
        table.set(1, "c");
        table.keep();
        table.set(1, "d");
        table.set(1, "e");
        table.set(3, "f");
        table.undo();
        assert_eq!((table.get(&1), table.get(&2), table.get(&3)), (Some(&"c"), Some(&"b"), None));
        assert_eq!(table.changed().collect::<Vec<_>>(), [(&1, &"c")]);
    }

    #[test]
    fn a_row_that_is_undone_is_not_stored() {
        let mut table = Table::from_iter([(1, "a")]);
        table.set(1, "b");
        table.undo();
        assert!(!table.is_changed());
    }

    #[test]
    fn added_rows_and_claims_go_back_too() {
        let mut rows = (Added::default(), Claims::from_iter([7]));
        rows.0.add(1);
        rows.keep();
        rows.0.add(2);
        assert!(rows.1.take(&7) && !rows.1.take(&7));
        rows.undo();
        assert_eq!(rows.0.iter().collect::<Vec<_>>(), [&1]);
        assert!(rows.1.take(&7) && !rows.1.take(&8));
    }

    #[test]
    fn keys_are_sorted_and_distinct() {
        assert_eq!(keys(&[3, 1, 3, 2], |n| *n), [1, 2, 3]);
    }
}
