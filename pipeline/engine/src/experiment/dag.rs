//! An experiment that a program writes in place of a person: the same cells, the same keys.

use serde::Serialize;
use serde_json::Value as Json;

use super::Experiment;
use crate::{
    config::{Node, Origin, Roots, Value},
    error::ConfigError,
    registry::Registry,
    stage::Stage,
};

/// Cells and what flows between them, one after another.
///
/// # Examples
/// ```
/// use engine::{Artifact, Ctx, Dag, Out, Registry, Roots, Stage, StageError, inputs, outputs};
///
/// struct Text;
/// impl Artifact for Text {
///     const KIND: &'static str = "text";
/// }
/// inputs! { pub struct NoneIn {} }
/// outputs! { pub struct TextOut { text: Out<Text> } }
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Greeting {
///     name: String,
/// }
///
/// struct Greet;
/// impl Stage for Greet {
///     const NAME: &'static str = "greet";
///     const VERSION: u32 = 1;
///     const ABOUT: &'static str = "Greets somebody.";
///     type Config = Greeting;
///     type Inputs = NoneIn;
///     type Outputs = TextOut;
///
///     fn run(config: &Greeting, _: NoneIn, out: &TextOut, _: &Ctx<'_>) -> Result<(), StageError> {
///         out.text.write("text", config.name.as_bytes())
///     }
/// }
///
/// let mut registry = Registry::new();
/// registry.add::<Greet>();
/// let mut dag = Dag::new("greetings");
/// dag.cell::<Greet>("hello", &Greeting { name: "Ada".to_owned() }, &[])?;
/// let experiment = dag.experiment(&Roots::find(".".as_ref()), &registry)?;
/// assert_eq!(experiment.cells[0].name, "hello");
/// # Ok::<(), engine::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dag {
    name: String,
    cells: Vec<(String, Node)>,
}

impl Dag {
    /// An experiment of this name without cells.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), cells: Vec::new() }
    }

    /// Adds a cell: a stage, its configuration, and references (`cell`, `cell.port`) by input port.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for a configuration that is no table, or that holds a number beyond 64 bits.
    pub fn cell<S: Stage>(
        &mut self,
        name: &str,
        config: &S::Config,
        inputs: &[(&str, &[&str])],
    ) -> Result<&mut Self, ConfigError> {
        let unsupported = || ConfigError::Unsupported {
            origin: Origin::Program,
            what: format!("configuration of cell `{name}`"),
        };
        let json = serde_json::to_value(config).map_err(|_| unsupported())?;
        let node = node_of(&json).ok_or_else(unsupported)?;
        let Value::Table(mut entries) = node.value else { return Err(unsupported()) };
        let wiring = inputs.iter().map(|(port, from)| (port.to_string(), own(list(from))));
        entries.push(("use".to_owned(), own(Value::Text(S::NAME.to_owned()))));
        entries.push(("in".to_owned(), own(Value::Table(wiring.collect()))));
        self.cells.push((name.to_owned(), own(Value::Table(entries))));
        Ok(self)
    }

    /// Says what a cell that was added takes of the machine and what happens when it fails: `resources`, `timeout` and
    /// `retry` as an experiment file has them.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for a policy that is no table, [`ConfigError::NoCell`] where the cell is not there.
    pub fn policy(
        &mut self,
        name: &str,
        policy: &impl Serialize,
    ) -> Result<&mut Self, ConfigError> {
        let unsupported = || ConfigError::Unsupported {
            origin: Origin::Program,
            what: format!("policy of cell `{name}`"),
        };
        let json = serde_json::to_value(policy).map_err(|_| unsupported())?;
        let Value::Table(added) = node_of(&json).ok_or_else(unsupported)?.value else {
            return Err(unsupported());
        };
        let cell = self.cells.iter_mut().find(|(known, _)| known == name);
        let missing = || ConfigError::NoCell { pattern: name.to_owned(), nearest: None };
        let (_, cell) = cell.ok_or_else(missing)?;
        cell.overlay(own(Value::Table(added)));
        Ok(self)
    }

    /// Checks everything and gives the experiment.
    ///
    /// # Errors
    /// Any [`ConfigError`], as for an experiment file.
    pub fn experiment(
        &self,
        roots: &Roots,
        registry: &Registry,
    ) -> Result<Experiment, ConfigError> {
        let document = own(Value::Table(self.cells.clone()));
        Experiment::from_document(&document, &self.name, roots, registry)
    }
}

fn own(value: Value) -> Node {
    Node { value, origin: Origin::Program }
}

fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| own(Value::Text((*item).to_owned()))).collect())
}

/// A value that TOML can hold; what is not there is left out of its table, which is how TOML says so.
fn node_of(json: &Json) -> Option<Node> {
    let value = match json {
        Json::Null => return None,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None if number.is_f64() => Value::Float(number.as_f64()?),
            None => return None,
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(node_of).collect::<Option<_>>()?),
        Json::Object(fields) => {
            let there = fields.iter().filter(|(_, field)| !field.is_null());
            let entries = there.map(|(key, field)| Some((key.clone(), node_of(field)?)));
            Value::Table(entries.collect::<Option<_>>()?)
        }
    };
    Some(own(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use serde_json::json;

    use super::*;
    use crate::toy::{Echo, Join, List, TOY, Toy, registry, run_quietly};

    fn config<S: Stage>(json: Json) -> S::Config {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_program_and_a_file_have_the_same_keys() {
        let toy = Toy::new();
        let mut dag = Dag::new("toy");
        let words = json!({ "words": ["apple", "banana", "cherry"] });
        dag.cell::<List>("words", &config::<List>(words), &[]).unwrap();
        for (name, from, times) in
            [("once", "words", 1), ("twice", "words", 2), ("thrice", "once", 3)]
        {
            let config = config::<Echo>(json!({ "times": times }));
            dag.cell::<Echo>(name, &config, &[("words", &[from])]).unwrap();
        }
        let from = [("words", &["once", "twice", "thrice"][..])];
        dag.cell::<Join>("join", &config::<Join>(json!({})), &from).unwrap();
        dag.policy("join", &json!({ "timeout": "1h" })).unwrap();
        let built = dag.experiment(&Roots::find(&toy.path("")), &registry()).unwrap();
        let store = toy.store();
        let keys = |experiment| -> Vec<_> {
            let report = run_quietly(experiment, &store).unwrap();
            report.cells.into_iter().map(|cell| (cell.cell, cell.key, cell.outputs)).collect()
        };
        assert_eq!(keys(&built), keys(&toy.load(TOY, &[])));
        assert_eq!(built.cells[4].policy.timeout.unwrap().as_secs(), 3600);
        assert!(dag.policy("nobody", &json!({})).is_err());
    }
}
