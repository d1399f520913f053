//! What a scenario keeps of answers and uses later on.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Names and their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vars(BTreeMap<String, Value>);

impl Vars {
    /// Keeps a value.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Replaces `"$name"` by the value, `"$name+2"` by a sum, `${name}` in a longer string by its text, `{ filled = "x", times = N }` by a
    /// string of that length, and `{ each = {...}, times = N }` by a list in which `n` counts from 0.
    ///
    /// # Errors
    /// If a name has no value.
    pub(crate) fn fill(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => self.fill_text(text)?,
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fill(item)).collect::<Result<_, _>>()?),
            Value::Object(object) => match repeated(object) {
                Some((Repeated::Text(text), times)) => Value::String(text.repeat(times)),
                Some((Repeated::Items(item), times)) => Value::Array(self.fill_list(item, times)?),
                None => Value::Object(self.fill_object(object)?),
            },
            other => other.clone(),
        })
    }

    /// The same for an object.
    ///
    /// # Errors
    /// If a name has no value.
    pub(crate) fn fill_object(&self, object: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        object.iter().map(|(name, value)| Ok((name.clone(), self.fill(value)?))).collect()
    }

    fn fill_list(&self, item: &Value, times: usize) -> Result<Vec<Value>, String> {
        let mut vars = self.clone();
        let mut one = |n: usize| {
            vars.set("n", n.into());
            vars.fill(item)
        };
        (0..times).map(&mut one).collect()
    }

    /// The same for a name.
    ///
    /// # Errors
    /// If a name in it has no value.
    pub(crate) fn fill_name(&self, name: &str) -> Result<String, String> {
        match self.fill_text(name)? {
            Value::String(text) => Ok(text),
            other => Err(format!("{other} is no name")),
        }
    }

    fn fill_text(&self, text: &str) -> Result<Value, String> {
        let whole = text.strip_prefix('$').filter(|name| is_name(name) && !matches!(*name, "any" | "none"));
        if let Some(name) = whole {
            return self.value(name).cloned();
        }
        if let Some((name, more)) =
            text.strip_prefix('$').and_then(|sum| sum.split_once('+')).filter(|(name, _)| is_name(name))
        {
            let sum = self.value(name)?.as_u64().zip(more.parse::<u64>().ok()).map(|(value, more)| value + more);
            return sum.map(Value::from).ok_or_else(|| format!("{text} is no sum of numbers"));
        }
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or_else(|| format!("{text}: a brace is open"))?;
            filled.push_str(before);
            match self.value(name)? {
                Value::String(text) => filled.push_str(text),
                other => filled.push_str(&other.to_string()),
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(Value::String(filled))
    }

    fn value(&self, name: &str) -> Result<&Value, String> {
        self.0.get(name).ok_or_else(|| format!("nothing was saved as {name}"))
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

enum Repeated<'a> {
    Text(&'a str),
    Items(&'a Value),
}

fn repeated(object: &Map<String, Value>) -> Option<(Repeated<'_>, usize)> {
    if object.len() != 2 {
        return None;
    }
    let times = usize::try_from(object.get("times")?.as_u64()?).ok()?;
    match (object.get("filled"), object.get("each")) {
        (Some(Value::String(text)), _) => Some((Repeated::Text(text), times)),
        (_, Some(item)) => Some((Repeated::Items(item), times)),
        _ => None,
    }
}

/// The part of a value that a path such as `entry.mod_revision` or `events.0.key` names; all of it for an empty one.
pub(crate) fn part<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(value, |value, name| match value {
        Value::Object(object) => object.get(name),
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_becomes_its_value_and_within_a_text_its_text() {
        let mut vars = Vars::default();
        vars.set("rev", json!(7));
        vars.set("key", json!("k"));
        let given = json!({ "a": "$rev", "b": ["k/${key}-${rev}"], "c": "$any", "d": "cost: 5$" });
        assert_eq!(vars.fill(&given), Ok(json!({ "a": 7, "b": ["k/k-7"], "c": "$any", "d": "cost: 5$" })));
        assert_eq!(vars.fill(&json!("$rev+3")), Ok(json!(10)));
        assert!(vars.fill(&json!("$other")).is_err());
        assert_eq!(vars.fill(&json!({ "filled": "ab", "times": 2 })), Ok(json!("abab")));
        assert_eq!(vars.fill(&json!({ "each": ["$n", "k${n}"], "times": 2 })), Ok(json!([[0, "k0"], [1, "k1"]])));
    }

    #[test]
    fn a_path_finds_its_part() {
        let value = json!({ "events": [{ "key": "k" }] });
        assert_eq!(part(&value, "events.0.key"), Some(&json!("k")));
        assert_eq!(part(&value, ""), Some(&value));
        assert_eq!(part(&value, "events.1"), None);
    }
}
