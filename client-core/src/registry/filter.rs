//! Which instances of a service.

use std::collections::BTreeMap;
use std::str::FromStr;

use hither_protocol::{ErrorCode, Refusal};

use crate::instance::{Instance, Status};

/// Which instances of a service: those that meet every condition. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    versions: Vec<String>,
    zones: Vec<String>,
    regions: Vec<String>,
    statuses: Vec<Status>,
}

impl InstanceFilter {
    /// All instances.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that have this tag. Given several, all of them.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Those whose metadata has this value under this name. Given several, all of them.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Those of this version. Given several, of any of them.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.versions.push(version.into());
        self
    }

    /// Those in this zone. Given several, in any of them.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zones.push(zone.into());
        self
    }

    /// Those in this region. Given several, in any of them.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.regions.push(region.into());
        self
    }

    /// Those of this status, suspect included. Given several, of any of them.
    #[must_use]
    pub fn status(mut self, status: impl Into<Status>) -> Self {
        self.statuses.push(status.into());
        self
    }

    /// Whether it lets everything through.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it lets this instance through.
    #[must_use]
    pub fn matches(&self, instance: &Instance) -> bool {
        let any = |wanted: &[String], have: &String| wanted.is_empty() || wanted.contains(have);
        self.tags.iter().all(|tag| instance.tags.contains(tag))
            && self.metadata.iter().all(|(name, value)| instance.metadata.get(name) == Some(value))
            && any(&self.versions, &instance.version)
            && any(&self.zones, &instance.zone)
            && any(&self.regions, &instance.region)
            && (self.statuses.is_empty() || self.statuses.contains(&instance.status))
    }
}

/// `tag=blue,zone=a,meta.team=red`: what [`InstanceFilter`]'s methods say, joined by commas.
impl FromStr for InstanceFilter {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        text.split(',').filter(|part| !part.is_empty()).try_fold(Self::default(), |filter, part| {
            let (field, value) = part.split_once('=').unwrap_or((part, ""));
            Ok(match field {
                "tag" => filter.tag(value),
                "version" => filter.version(value),
                "zone" => filter.zone(value),
                "region" => filter.region(value),
                "status" => filter.status(value),
                _ => match field.strip_prefix("meta.") {
                    Some(name) => filter.metadata(name, value),
                    None => {
                        let detail = format!(
                            "{part:?} is no filter: write tag=, version=, zone=, region=, status= or meta.NAME= and a value"
                        );
                        return Err(Refusal::new(ErrorCode::InvalidArgument, detail));
                    }
                },
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold_and_alternatives_are_of_one_kind() {
        let mut instance = Instance::new("api", "1");
        instance.tags = vec!["blue".into(), "fast".into()];
        instance.metadata = [("team".to_owned(), "red".to_owned())].into();
        instance.version = "1.2".into();
        instance.zone = "a".into();
        let matches = |text: &str| text.parse::<InstanceFilter>().unwrap().matches(&instance);
        for text in
            ["", "tag=blue", "tag=blue,tag=fast", "zone=a,zone=b", "meta.team=red,version=1.2", "status=passing"]
        {
            assert!(matches(text), "{text}");
        }
        for text in ["tag=blue,tag=slow", "zone=b", "meta.team=", "meta.other=red", "region=eu", "status=suspect"] {
            assert!(!matches(text), "{text}");
        }
        assert!("".parse::<InstanceFilter>().unwrap().is_all());
        assert!("colour=blue".parse::<InstanceFilter>().is_err());
    }
}
