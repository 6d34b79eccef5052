//! The file that describes a system: the requests that drive it, what the checks read, and what must hold.
//! `docs/chaos.md` explains the format to users.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::template::{Drawn, Form};

const ORDER: &str = include_str!("../../systems/order.toml");

/// One system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct System {
    /// Names of the plugins; their policies name databases and topics.
    pub(super) plugins: Vec<String>,
    /// Those that are swapped to a second version.
    #[serde(default)]
    pub(super) swapped: Vec<String>,
    /// Paths that every host must answer with 200 while plugins are swapped.
    #[serde(default)]
    pub(super) routes: Vec<String>,
    #[serde(default)]
    pub(super) topics: Topics,
    pub(super) setup: Option<Setup>,
    pub(super) load: Load,
    pub(super) redrive: Option<Redrive>,
    #[serde(default, rename = "table")]
    pub(super) tables: Vec<Table>,
    #[serde(default, rename = "view")]
    pub(super) views: Vec<View>,
    #[serde(default, rename = "count")]
    pub(super) counts: Vec<Count>,
    #[serde(default, rename = "invariant")]
    pub(super) invariants: Vec<Invariant>,
}

/// Topics that faults may change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topics {
    /// Get further partitions.
    #[serde(default)]
    pub(super) grow: Vec<String>,
    /// Are deleted and created again, at a quiet moment.
    #[serde(default)]
    pub(super) anew: Vec<String>,
}

/// Requests before the load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setup {
    pub(super) times: usize,
    pub(super) send: Form,
    #[serde(default)]
    pub(super) values: BTreeMap<String, Drawn>,
    pub(super) success: u16,
    /// What later requests use: a name, and the place in the answer.
    #[serde(default)]
    pub(super) keep: BTreeMap<String, String>,
}

/// The requests of the load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    /// Forms of a request, taken in turn.
    pub(super) send: Vec<Form>,
    #[serde(default)]
    pub(super) values: BTreeMap<String, Drawn>,
    pub(super) success: u16,
    /// Place of the id in the answer; by default the id that the request was sent under.
    pub(super) id: Option<String>,
    /// Place in the answer that is there when the saga has ended.
    pub(super) ended: Option<String>,
    /// Headers of every second request of each form, which make it wait for the end of the saga.
    #[serde(default)]
    pub(super) waiting: BTreeMap<String, String>,
}

/// How a delivery is made to fail for a while.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redrive {
    pub(super) plugin: String,
    pub(super) database: String,
    pub(super) key: Drawn,
    /// Statement after which the deliveries of `{key}` fail.
    #[serde(rename = "break")]
    pub(super) breaks: String,
    /// Statement that ends it.
    pub(super) mend: String,
}

/// What a check reads from a database, or from a route.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) name: String,
    /// Names and types, as in CREATE TABLE.
    pub(super) columns: String,
    /// `*` for all databases of the plugins.
    pub(super) database: Option<String>,
    pub(super) select: Option<String>,
    /// Path of a route that answers with JSON.
    pub(super) get: Option<String>,
    /// Place of the list in its answer.
    #[serde(default)]
    pub(super) rows: String,
}

/// A selection that invariants use by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) select: String,
}

/// A number that must be 0.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Count {
    pub(super) of: String,
    pub(super) select: String,
}

/// What must hold at the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invariant {
    pub(super) name: String,
    /// Selects a text that is shown behind the name.
    pub(super) figures: Option<String>,
    /// Selects what breaks it.
    none: Option<String>,
    /// Selects something when it holds.
    some: Option<String>,
    /// Two selections of the same rows.
    equal: Option<[String; 2]>,
}

/// How an invariant is judged.
#[derive(Debug, Clone)]
pub(super) enum Relation<'a> {
    /// Selects nothing.
    None(&'a str),
    /// Selects something.
    Some(&'a str),
    /// Both select the same rows, each as often.
    Equal(&'a [String; 2]),
}

impl Invariant {
    /// Its relation.
    ///
    /// # Errors
    /// It has none, or several.
    pub(super) fn relation(&self) -> Result<Relation<'_>> {
        match (&self.none, &self.some, &self.equal) {
            (Some(select), None, None) => Ok(Relation::None(select)),
            (None, Some(select), None) => Ok(Relation::Some(select)),
            (None, None, Some(both)) => Ok(Relation::Equal(both)),
            _ => bail!("invariant {:?}: give one of `none`, `some` and `equal`", self.name),
        }
    }
}

impl System {
    /// Reads `name`, a known system or a file.
    ///
    /// # Errors
    /// There is no such file, or it is not of the format.
    pub(super) fn read(name: &str) -> Result<Self> {
        let text = match name {
            "order" => ORDER.to_owned(),
            file => std::fs::read_to_string(Path::new(file))
                .with_context(|| format!("no system {file}: name a file, or `order`"))?,
        };
        Self::parse(&text).with_context(|| format!("the system {name}"))
    }

    fn parse(text: &str) -> Result<Self> {
        let system: Self = toml::from_str(text)?;
        ensure!(!system.load.send.is_empty(), "no [[load.send]]");
        for table in &system.tables {
            let sql = table.database.is_some() && table.select.is_some();
            ensure!(
                sql != table.get.is_some(),
                "table {}: give `database` and `select`, or `get`",
                table.name
            );
        }
        system.invariants.iter().try_for_each(|invariant| invariant.relation().map(drop))?;
        Ok(system)
    }
}

#[cfg(test)]
mod tests {
    use super::System;

    #[test]
    fn the_order_system_is_read() {
        let system = System::read("order").unwrap();
        assert_eq!((system.plugins.len(), system.load.send.len()), (5, 2));
        assert!(system.invariants.len() >= 20);
    }

    #[test]
    fn what_is_misspelt_or_missing_is_refused() {
        let least = "plugins = []\n[load]\nsuccess = 201\nsend = [{ method = 'GET', path = '/' }]\n";
        System::parse(least).unwrap();
        for (more, word) in [
            ("vlaues = {}\n", "vlaues"),
            ("[[table]]\nname = 't'\ncolumns = 'a int'\n", "table t"),
            ("[[invariant]]\nname = 'i'\nnoone = 'SELECT'\n", "noone"),
            ("[[invariant]]\nname = 'i'\n", "one of `none`"),
            ("[[invariant]]\nname = 'i'\nnone = 'a'\nsome = 'b'\n", "one of `none`"),
        ] {
            let error = format!("{:#}", System::parse(&format!("{least}{more}")).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        assert!(System::read("nowhere.toml").unwrap_err().to_string().contains("no system nowhere.toml"));
    }
}
