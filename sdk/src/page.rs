//! Lists in pages: a limit, an opaque cursor (the key of the last entry), and the address of the next page in
//! a `Link` header (RFC 8288). Rows that come or go between two pages do not shift it.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    input::{Request, Response},
    positive::Positive,
    problem::Problem,
};

/// Entries of a page by default.
pub const LIMIT_DEFAULT: i64 = 100;
/// The most entries that a page may have.
pub const LIMIT_MAX: i64 = 1000;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The page that a request asks for. `N` is the size of the key that the list is sorted by, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<const N: usize> {
    /// The most entries to show.
    pub limit: i64,
    /// The key of the last entry of the previous page; `None` for the first page.
    pub after: Option<[u8; N]>,
}

impl<const N: usize> Page<N> {
    /// Reads the query parameters `limit` and `cursor`.
    ///
    /// # Errors
    /// 400 with the name of the parameter that is not valid.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let limit = match request.query("limit")? {
            None => LIMIT_DEFAULT,
            Some(text) => Positive::parse(text)
                .map(|limit| i64::from(limit.get()))
                .filter(|limit| *limit <= LIMIT_MAX)
                .ok_or_else(|| Problem::parameter("limit", "a whole number from 1 to 1000"))?,
        };
        let after = match request.query("cursor")? {
            None => None,
            Some(text) => {
                let key = decode(text).and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
                Some(key.ok_or_else(|| Problem::parameter("cursor", "the cursor of a Link header"))?)
            }
        };
        Ok(Self { limit, after })
    }

    /// The number of rows to fetch: one more than the page has, to see whether there is a next page.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// The answer for the fetched rows: a bare array, and the `Link` of the next page if there is one. `kept`
    /// are the other query parameters of that link; their values must need no escaping.
    pub fn answer<T: Serialize>(
        &self,
        path: &str,
        kept: &[(&str, &str)],
        mut fetched: Vec<T>,
        key: impl Fn(&T) -> [u8; N],
    ) -> Response {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = fetched.len() > limit;
        fetched.truncate(limit);
        let response = Response::json(200, &fetched);
        match fetched.last().filter(|_| more) {
            None => response,
            Some(last) => {
                let mut target = format!("{path}?limit={limit}&cursor={}", encode(&key(last)));
                for (name, value) in kept {
                    let _ = write!(target, "&{name}={value}");
                }
                response.with_header("link", &format!("<{target}>; rel=\"next\""))
            }
        }
    }
}

/// base64url without padding (RFC 4648, section 5).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            (0..3).fold(0_usize, |bits, at| bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0)));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[bits >> (18 - 6 * place) & 63]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for character in chunk {
            bits = bits << 6 | ALPHABET.iter().position(|known| known == character)?;
        }
        bits <<= 6 * (4 - chunk.len());
        let whole = (chunk.len() * 6) / 8;
        bytes.extend((0..whole).filter_map(|at| u8::try_from(bits >> (16 - 8 * at) & 255).ok()));
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::{Page, Problem, decode, encode};
    use crate::{input::Request, testing::request};

    fn asked(query: &[(&str, &str)]) -> Request {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { query, ..request("") }
    }

    #[test]
    fn limit_and_cursor_are_read() {
        assert_eq!(Page::of(&asked(&[])), Ok(Page::<4> { limit: 100, after: None }));
        let cursor = encode(&[0, 0, 1, 2]);
        let page = Page::of(&asked(&[("limit", "7"), ("cursor", &cursor)]));
        assert_eq!(page, Ok(Page { limit: 7, after: Some([0, 0, 1, 2]) }));
    }

    #[test]
    fn a_parameter_that_is_given_twice_is_refused_by_name() {
        for (name, value) in [("limit", "7"), ("cursor", "AAAAAA")] {
            let problem = Page::<4>::of(&asked(&[(name, value), ("other", "x"), (name, value)])).unwrap_err();
            assert_eq!(problem, Problem::parameter(name, "one value, not several"));
        }
    }

    #[test]
    fn invalid_parameters_are_refused() {
        for limit in ["0", "-1", "abc", "", "1.5", "1001", "99999999999999999999"] {
            assert!(Page::<4>::of(&asked(&[("limit", limit)])).is_err(), "{limit}");
        }
        for cursor in ["", "abc", "\0", "!!!!", "eyJhIjoxfQ", "AAAAAAA"] {
            assert!(Page::<4>::of(&asked(&[("cursor", cursor)])).is_err(), "{cursor}");
        }
    }

    #[test]
    fn the_next_page_starts_after_the_last_entry() {
        let page = Page::<1> { limit: 2, after: None };
        let link = |fetched: Vec<u8>| {
            let response = page.answer("/stocks", &[("status", "NEW")], fetched, |entry| [*entry]);
            let headers = response.headers.into_iter().find(|header| header.name == "link");
            headers.map(|header| String::from_utf8(header.value).unwrap())
        };
        assert_eq!(link(vec![5, 6]), None);
        assert_eq!(link(vec![5, 6, 7]).unwrap(), r#"</stocks?limit=2&cursor=Bg&status=NEW>; rel="next""#);
    }

    proptest! {
        #[test]
        fn cursors_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
