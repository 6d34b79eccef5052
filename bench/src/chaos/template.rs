//! Requests with places for values, and how the values are drawn.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::sample::Sample;
use saga_testkit::caller::Request;

/// A request with places like `{name}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// JSON.
    body: Option<String>,
}

/// How a value is drawn.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Drawn {
    /// A whole number.
    Between {
        /// The lowest.
        from: i64,
        /// The highest.
        to: i64,
    },
    /// One of the values that the setup has kept under this name.
    AnyOf {
        /// The name.
        any_of: String,
    },
    /// This many for each request of the load, shared among the requests of the setup.
    PerRequest {
        /// How many.
        per_request: f64,
    },
}

/// What the setup has kept, by name.
pub(super) type Kept = BTreeMap<String, Vec<Value>>;

/// What values are drawn from.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) kept: Kept,
    /// Requests of the load for each request of the setup.
    pub(super) share: f64,
}

impl Drawn {
    /// Draws a value.
    ///
    /// # Errors
    /// The setup has kept nothing under the name.
    pub(super) fn draw(&self, source: &Source, sample: &mut Sample) -> Result<Value> {
        Ok(match self {
            Self::Between { from, to } => {
                let span = usize::try_from(to.saturating_sub(*from).saturating_add(1)).unwrap_or(1);
                (from + i64::try_from(sample.below(span))?).into()
            }
            Self::AnyOf { any_of } => {
                let values = source.kept.get(any_of).filter(|values| !values.is_empty());
                let values = values.with_context(|| format!("the setup keeps nothing as {any_of}"))?;
                values[sample.below(values.len())].clone()
            }
            Self::PerRequest { per_request } => {
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "a whole number of at most a few millions"
                )]
                let whole = (per_request * source.share) as i64;
                whole.into()
            }
        })
    }
}

/// Draws all values of a request.
///
/// # Errors
/// As [`Drawn::draw`].
pub(super) fn draw(
    values: &BTreeMap<String, Drawn>,
    source: &Source,
    sample: &mut Sample,
) -> Result<Map<String, Value>> {
    values.iter().map(|(name, drawn)| Ok((name.clone(), drawn.draw(source, sample)?))).collect()
}

impl Form {
    /// The request with these values.
    pub(super) fn request(&self, values: &Map<String, Value>) -> Request {
        let (path, body) = (fill(&self.path, values), self.body.as_ref().map(|body| fill(body, values)));
        let request = match (self.method.as_str(), body) {
            (method, None) => Request::new(method, path),
            (method, Some(body)) => Request::json(method, path, body),
        };
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, fill(value, values)))
    }
}

/// Puts values into a text: strings without quotes, everything else as JSON.
pub(super) fn fill(text: &str, values: &Map<String, Value>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.replace(&format!("{{{name}}}"), &value)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Drawn, Form, Source, draw, fill};
    use crate::sample::Sample;

    #[test]
    fn values_fill_path_headers_and_body() {
        let values = json!({"id": "a-1", "qty": 3});
        let values = values.as_object().unwrap();
        assert_eq!(fill(r#"{"id":"{id}","qty":{qty},"x":{y}}"#, values), r#"{"id":"a-1","qty":3,"x":{y}}"#);
        let form: Form = toml::from_str(
            "method = 'POST'\npath = '/o/{id}'\nheaders = { Key = '{id}' }\nbody = '{\"n\":{qty}}'",
        )
        .unwrap();
        let text = String::from_utf8(form.request(values).encode("h:1")).unwrap();
        assert!(text.starts_with("POST /o/a-1 HTTP/1.1") && text.contains("\r\nKey: a-1\r\n"), "{text}");
        assert!(text.ends_with(r#"{"n":3}"#), "{text}");
    }

    #[test]
    fn values_are_drawn_within_their_bounds() {
        let mut source = Source { share: 100.0, ..Source::default() };
        source.kept.insert("product".to_owned(), vec![json!(7), json!(8)]);
        let values = toml::from_str(
            "qty = { from = 1, to = 3 }\nproduct = { any_of = 'product' }\nstock = { per_request = 1.2 }",
        )
        .unwrap();
        let mut sample = Sample::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let drawn = draw(&values, &source, &mut sample).unwrap();
            assert_eq!(drawn["stock"], 120);
            assert!(drawn["product"] == 7 || drawn["product"] == 8);
            seen.insert(drawn["qty"].as_i64().unwrap());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
        let unknown = Drawn::AnyOf { any_of: "customer".to_owned() };
        assert!(unknown.draw(&source, &mut sample).unwrap_err().to_string().contains("customer"));
    }
}
