//! Whether an answer contains what was expected.

use serde_json::{Map, Value};

/// Anything that exists.
const ANY: &str = "$any";
/// Null, or nothing at all: TOML cannot say null.
const NONE: &str = "$none";
const OPERATORS: [&str; 9] = ["above", "below", "at_least", "at_most", "not", "any_of", "contains", "length", "has"];

/// A comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Matcher {
    /// Whether lists may have another order.
    pub(crate) any_order: bool,
}

impl Matcher {
    /// Whether `actual` contains `expected`.
    ///
    /// # Errors
    /// Where they differ, and how.
    pub(crate) fn check(&self, expected: &Value, actual: &Value) -> Result<(), String> {
        self.at("", expected, actual)
    }

    fn at(&self, path: &str, expected: &Value, actual: &Value) -> Result<(), String> {
        let differs = || Err(format!("{}: {} was expected, it is {}", place(path), brief(expected), brief(actual)));
        match expected {
            Value::String(text) if text == ANY => {
                if actual.is_null() {
                    return differs();
                }
                Ok(())
            }
            Value::String(text) if text == NONE => {
                if actual.is_null() {
                    Ok(())
                } else {
                    differs()
                }
            }
            Value::Object(operators) if is_operators(operators) => {
                operators.iter().try_for_each(|(operator, operand)| self.operator(path, operator, operand, actual))
            }
            Value::Object(fields) => {
                let Some(object) = actual.as_object() else { return differs() };
                fields.iter().try_for_each(|(name, value)| {
                    self.at(&format!("{path}.{name}"), value, object.get(name).unwrap_or(&Value::Null))
                })
            }
            Value::Array(items) => {
                let Some(list) = actual.as_array() else { return differs() };
                if items.len() != list.len() {
                    return Err(format!(
                        "{}: {} items were expected, there are {}: {}",
                        place(path),
                        items.len(),
                        list.len(),
                        brief(actual)
                    ));
                }
                if self.any_order { self.has(path, items, list) } else { self.in_order(path, items, list) }
            }
            Value::Number(number) => {
                if actual.as_f64() == number.as_f64() && actual.is_number() {
                    Ok(())
                } else {
                    differs()
                }
            }
            other if other == actual => Ok(()),
            _ => differs(),
        }
    }

    fn in_order(&self, path: &str, items: &[Value], list: &[Value]) -> Result<(), String> {
        let mut pairs = items.iter().zip(list).enumerate();
        pairs.try_for_each(|(index, (item, actual))| self.at(&format!("{path}.{index}"), item, actual))
    }

    /// Each expected item is one of the list, and no two are the same one.
    fn has(&self, path: &str, items: &[Value], list: &[Value]) -> Result<(), String> {
        let mut free: Vec<&Value> = list.iter().collect();
        for item in items {
            let found = free.iter().position(|actual| self.at(path, item, actual).is_ok());
            let Some(found) = found else {
                return Err(format!("{}: {} is not among {}", place(path), brief(item), brief(&list.into())));
            };
            free.swap_remove(found);
        }
        Ok(())
    }

    fn operator(&self, path: &str, operator: &str, operand: &Value, actual: &Value) -> Result<(), String> {
        let holds = match operator {
            "above" => compare(actual, operand, |a, b| a > b),
            "below" => compare(actual, operand, |a, b| a < b),
            "at_least" => compare(actual, operand, |a, b| a >= b),
            "at_most" => compare(actual, operand, |a, b| a <= b),
            "not" => self.at(path, operand, actual).is_err(),
            "any_of" => operand.as_array().is_some_and(|any| any.iter().any(|one| self.at(path, one, actual).is_ok())),
            "contains" => match (actual, operand) {
                (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
                _ => false,
            },
            "length" => {
                let length = match actual {
                    Value::Array(list) => list.len(),
                    Value::String(text) => text.len(),
                    Value::Object(object) => object.len(),
                    _ => return Err(format!("{}: {} has no length", place(path), brief(actual))),
                };
                return self.at(&format!("{path}.length"), operand, &length.into());
            }
            "has" => match (operand, actual) {
                (Value::Array(items), Value::Array(list)) => return self.has(path, items, list),
                _ => false,
            },
            _ => false,
        };
        if holds {
            return Ok(());
        }
        Err(format!("{}: {operator} {} was expected, it is {}", place(path), brief(operand), brief(actual)))
    }
}

fn is_operators(object: &Map<String, Value>) -> bool {
    !object.is_empty() && object.keys().all(|key| OPERATORS.contains(&key.as_str()))
}

fn compare(actual: &Value, operand: &Value, holds: impl Fn(f64, f64) -> bool) -> bool {
    actual.as_f64().zip(operand.as_f64()).is_some_and(|(a, b)| holds(a, b))
}

fn place(path: &str) -> &str {
    if path.is_empty() { "the answer" } else { &path[1..] }
}

/// A value, short enough for a line.
pub(crate) fn brief(value: &Value) -> String {
    const LONGEST: usize = 600;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(expected: Value, actual: Value) -> bool {
        Matcher::default().check(&expected, &actual).is_ok()
    }

    #[test]
    fn an_object_may_have_more_and_a_list_may_not() {
        assert!(matches(json!({ "a": 1 }), json!({ "a": 1, "b": 2 })));
        assert!(!matches(json!({ "a": 1 }), json!({ "b": 2 })));
        assert!(matches(json!([{ "a": 1 }]), json!([{ "a": 1, "b": 2 }])));
        assert!(!matches(json!([1]), json!([1, 2])));
        assert!(!matches(json!([1, 2]), json!([2, 1])));
        assert!(Matcher { any_order: true }.check(&json!([1, 2]), &json!([2, 1])).is_ok());
        assert!(Matcher { any_order: true }.check(&json!([1, 1]), &json!([2, 1])).is_err());
    }

    #[test]
    fn what_is_absent_can_be_expected() {
        assert!(matches(json!({ "a": "$none" }), json!({ "a": null })));
        assert!(matches(json!({ "a": "$none" }), json!({})));
        assert!(!matches(json!({ "a": "$any" }), json!({})));
        assert!(matches(json!({ "a": "$any" }), json!({ "a": 0 })));
    }

    #[test]
    fn operators_say_more_than_equality() {
        assert!(matches(json!({ "above": 3, "below": 5 }), json!(4)));
        assert!(!matches(json!({ "above": 3 }), json!(3)));
        assert!(!matches(json!({ "above": 3 }), json!("4")));
        assert!(matches(json!({ "not": "a" }), json!("b")));
        assert!(matches(json!({ "any_of": ["a", "b"] }), json!("b")));
        assert!(matches(json!({ "contains": "fox" }), json!("a fox")));
        assert!(matches(json!({ "length": { "at_least": 2 } }), json!([1, 2])));
        assert!(matches(json!({ "has": [{ "a": 1 }] }), json!([{ "a": 2 }, { "a": 1 }])));
        assert!(!matches(json!({ "has": [1, 1] }), json!([1, 2])));
    }

    #[test]
    fn a_difference_says_where_it_is() {
        let said = Matcher::default().check(&json!({ "a": [{ "b": 1 }] }), &json!({ "a": [{ "b": 2 }] }));
        assert_eq!(said, Err("a.0.b: 1 was expected, it is 2".to_owned()));
    }
}
