//! Names that clients chose, as labels: so many are told apart, the rest is `other`. A metric must not grow with what
//! clients make up.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug)]
pub(super) struct Known {
    names: Mutex<BTreeSet<Arc<str>>>,
    names_max: usize,
}

impl Known {
    pub(super) fn new(names_max: usize) -> Self {
        Self { names: Mutex::default(), names_max }
    }

    pub(super) fn label(&self, name: &str) -> Arc<str> {
        let mut names = self.names.lock();
        if let Some(known) = names.get(name) {
            return Arc::clone(known);
        }
        if names.len() == self.names_max {
            return "other".into();
        }
        let name: Arc<str> = name.into();
        names.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_one() {
        let known = Known::new(2);
        assert_eq!(&*known.label("a"), "a");
        assert_eq!(&*known.label("b"), "b");
        assert_eq!(&*known.label("c"), "other");
        assert_eq!(&*known.label("a"), "a");
    }
}
