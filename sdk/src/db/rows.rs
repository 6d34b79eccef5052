//! Results: the host returns columns, the plugin reads rows.

use super::{DbError, DbResult, cell::Cell};
use crate::bindings::saga::plugin::postgres::{Column, Table};

/// The result of a query.
#[derive(Clone, Debug)]
pub struct Found {
    columns: Vec<Column>,
}

impl From<Table> for Found {
    fn from(table: Table) -> Self {
        Self { columns: table.columns }
    }
}

/// A column of a result: `T`, or `Option<T>` where it may be NULL.
pub trait FromColumn: Sized {
    /// Reads all rows of the column.
    ///
    /// # Errors
    /// The column has another type, or a NULL where none is expected.
    fn read(column: Column) -> DbResult<Vec<Self>>;
}

impl<T: Cell> FromColumn for T {
    fn read(column: Column) -> DbResult<Vec<T>> {
        if !column.nulls.is_empty() {
            return Err(DbError::unexpected("a NULL in a column that is read as having none"));
        }
        T::cells(column.values)
            .ok_or_else(|| DbError::unexpected("a column of another type, or a number out of range"))
    }
}

impl<T: Cell> FromColumn for Option<T> {
    fn read(column: Column) -> DbResult<Vec<Option<T>>> {
        let cells = T::cells(column.values).ok_or_else(|| DbError::unexpected("a column of another type"))?;
        let mut cells: Vec<_> = cells.into_iter().map(Some).collect();
        for row in column.nulls {
            if let Some(cell) = usize::try_from(row).ok().and_then(|row| cells.get_mut(row)) {
                *cell = None;
            }
        }
        Ok(cells)
    }
}

/// A tuple that stands for a row.
pub trait FromRows: Sized {
    /// Reads all rows.
    ///
    /// # Errors
    /// There are more or fewer columns, or one does not fit.
    fn read(columns: Vec<Column>) -> DbResult<Vec<Self>>;
}

impl Found {
    /// All rows, as tuples: `let orders: Vec<(Uuid, i32, Option<String>)> = found.rows()?`.
    ///
    /// # Errors
    /// There are more or fewer columns, or one does not fit.
    pub fn rows<T: FromRows>(self) -> DbResult<Vec<T>> {
        T::read(self.columns)
    }
}

macro_rules! from_rows {
    ($($name:ident),+) => {
        impl<$($name: FromColumn),+> FromRows for ($($name,)+) {
            #[allow(non_snake_case, reason = "one name for a type and its column")]
            fn read(columns: Vec<Column>) -> DbResult<Vec<Self>> {
                let mut columns = columns.into_iter();
                let mut next = || columns.next().ok_or_else(|| DbError::unexpected("too few columns"));
                $(let mut $name = $name::read(next()?)?.into_iter();)+
                if columns.next().is_some() {
                    return Err(DbError::unexpected("too many columns"));
                }
                let mut rows = Vec::new();
                while let ($(Some($name),)+) = ($($name.next(),)+) {
                    rows.push(($($name,)+));
                }
                Ok(rows)
            }
        }
    };
}

from_rows!(A);
from_rows!(A, B);
from_rows!(A, B, C);
from_rows!(A, B, C, D);
from_rows!(A, B, C, D, E);
from_rows!(A, B, C, D, E, F);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Column, Found};
    use crate::bindings::saga::plugin::postgres::Values;

    fn found() -> Found {
        let column = |values, nulls| Column { values, nulls };
        let texts = Values::Texts(vec!["a".to_owned(), String::new()]);
        Found { columns: vec![column(Values::Integers(vec![1, 2]), vec![]), column(texts, vec![1])] }
    }

    #[test]
    fn columns_become_rows() {
        let rows: Vec<(i32, Option<String>)> = found().rows().unwrap();
        assert_eq!(rows, [(1, Some("a".to_owned())), (2, None)]);
    }

    #[test]
    fn a_result_that_does_not_fit_is_an_error() {
        assert!(found().rows::<(i32,)>().is_err());
        assert!(found().rows::<(i32, String)>().is_err());
        assert!(found().rows::<(String, Option<String>)>().is_err());
        assert!(found().rows::<(i32, Option<String>, i32)>().is_err());
    }
}
