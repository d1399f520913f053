//! The file: TOML with one level of sections, each item with the line it stands on.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{ConfigError, Source};

/// One `key = value` of a section.
pub(super) struct Item {
    pub(super) origin: Source,
    pub(super) section: String,
    pub(super) key: String,
    /// The value as text: settings read text, whichever source they come from.
    pub(super) value: String,
}

/// Everything that the file sets, in its order.
pub(super) fn items(path: &Path, text: &str) -> Result<Vec<Item>, ConfigError> {
    let origin = |span: Range<usize>| Source::File(path.to_owned(), line(text, span.start));
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: origin(error.span().unwrap_or_default()),
        reason: error.message().to_owned(),
    })?;
    let mut items = Vec::new();
    for (section, value) in table.get_ref() {
        let name = section.get_ref().to_string();
        let Some(keys) = value.get_ref().as_table() else {
            // A key outside every section: looked up under no section, it gets the nearest name in the error.
            items.push((
                section.span().start,
                Item { origin: origin(section.span()), section: String::new(), key: name, value: String::new() },
            ));
            continue;
        };
        for (key, value) in keys {
            let at = origin(key.span());
            let Some(value) = text_of(value.get_ref()) else {
                return Err(ConfigError::Invalid {
                    origin: at,
                    name: format!("{name}.{}", key.get_ref()),
                    value: value.get_ref().type_str().to_owned(),
                    reason: "a string, a number or a boolean is expected".to_owned(),
                });
            };
            items.push((
                key.span().start,
                Item { origin: at, section: name.clone(), key: key.get_ref().to_string(), value },
            ));
        }
    }
    items.sort_by_key(|(start, _)| *start);
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}
