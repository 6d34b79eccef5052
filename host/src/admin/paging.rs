//! Query parameters of lists: filters, a limit, and a cursor that only this host reads.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use super::{failure::Failure, path};

/// Query parameters as they came.
pub(super) type Pairs = Vec<(String, String)>;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;
const FILTER_BYTES_MAX: usize = 1024;

/// Query parameters, taken one by one. One that is left over is an error.
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// Refuses a parameter that is sent twice, since only one of its values could count, and one with NUL,
    /// which Postgres cannot store.
    pub(super) fn new(pairs: Pairs) -> Result<Self, Failure> {
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            let value = path::text(&name, value)?;
            if params.insert(name.clone(), value).is_some() {
                return Err(Failure::parameter(&name, "must be given once"));
            }
        }
        Ok(Self(params))
    }

    /// A filter. It must not be empty.
    pub(super) fn filter(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        match text.len() {
            1..=FILTER_BYTES_MAX => Ok(Some(text)),
            _ => Err(Failure::parameter(name, &format!("must have 1 to {FILTER_BYTES_MAX} bytes"))),
        }
    }

    /// 1 to 1000, by default 100.
    pub(super) fn limit(&mut self) -> Result<i64, Failure> {
        let Some(text) = self.0.remove("limit") else { return Ok(LIMIT_DEFAULT) };
        match text.parse() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            _ => Err(Failure::parameter("limit", &format!("must be a number from 1 to {LIMIT_MAX}"))),
        }
    }

    /// Where the previous page ended.
    pub(super) fn cursor<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let Some(text) = self.0.remove("cursor") else { return Ok(None) };
        let cursor = hex::decode(&text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        cursor.map(Some).ok_or_else(|| Failure::parameter("cursor", "must be the `next` of an earlier page"))
    }

    /// Refuses unknown parameters: a mistyped filter must not match everything.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.0
            .into_keys()
            .next()
            .map_or(Ok(()), |name| Err(Failure::parameter(&name, "this route has no such parameter")))
    }
}

/// The text that [`Params::cursor`] reads.
pub(super) fn cursor(last: &impl Serialize) -> String {
    hex::encode(serde_json::to_vec(last).unwrap_or_default())
}

/// Drops the rows beyond the limit; returns the cursor of the next page if there are any.
pub(super) fn cut<T, C: Serialize>(
    rows: &mut Vec<T>,
    limit: i64,
    cursor_of: impl Fn(&T) -> C,
) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|last| cursor(&cursor_of(last)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Failure, Params, cursor, cut};

    fn new(pairs: &[(&str, &str)]) -> Result<Params, Failure> {
        Params::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn params(pairs: &[(&str, &str)]) -> Params {
        new(pairs).unwrap_or_else(|_| Params(BTreeMap::new()))
    }

    #[test]
    fn a_parameter_is_given_once_and_is_text() {
        assert!(new(&[("type", "a"), ("key", "a")]).is_ok());
        for bad in [&[("type", "a"), ("type", "a")][..], &[("key", "a\0")]] {
            assert!(new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_have_bounds() {
        for (text, limit) in
            [("1", Some(1)), ("1000", Some(1000)), ("0", None), ("1001", None), ("-1", None), ("x", None)]
        {
            assert_eq!(params(&[("limit", text)]).limit().ok(), limit, "{text}");
        }
        assert_eq!(params(&[]).limit().ok(), Some(100));
    }

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        let text = cursor(&("order", 7));
        let read = params(&[("cursor", &text)]).cursor::<(String, i64)>();
        assert_eq!(read.ok().flatten(), Some(("order".to_owned(), 7)));
        for bad in ["!", "", "00", &text[2..], &cursor(&"other")] {
            assert!(params(&[("cursor", bad)]).cursor::<(String, i64)>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_left_over_is_refused() {
        let mut all = params(&[("type", "order")]);
        assert!(all.filter("type").is_ok_and(|found| found.as_deref() == Some("order")));
        assert!(all.finish().is_ok());
        assert!(params(&[("typ", "order")]).finish().is_err());
    }

    #[test]
    fn a_page_says_where_the_next_begins() {
        let mut rows = vec![3, 2, 1];
        assert_eq!(cut(&mut rows, 2, |row| *row), Some(cursor(&2)));
        assert_eq!(rows, [3, 2]);
        assert_eq!(cut(&mut rows, 2, |row| *row), None);
    }
}
