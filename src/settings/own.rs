//! Settings of plugins: `plugin-NAME-KEY`, for a plugin that is there.
//!
//! Owns which plugin a name means. The server's own settings go first; of plugins whose names begin alike
//! the longest name counts. Must never repeat a value, which may be a password.
//!
//! Diagnostics: names that mean neither a setting nor a plugin, with what is near.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rohrpost_abi::{plugin_name, setting_key};

use super::load::{Problem, Report, nearest};
use super::source::{Assignment, Origin};

/// What the names of such settings begin with.
pub(super) const PREFIX: &str = "plugin-";

/// Values by plugin and key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PluginValues(BTreeMap<(String, String), String>);

impl PluginValues {
    /// Plugin, key and value of each, in the order of their names.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().map(|((plugin, key), value)| (&**plugin, &**key, &**value))
    }

    /// The settings that differ from those of `other`, by their whole names.
    pub fn differing(&self, other: &PluginValues) -> Vec<String> {
        let ours = self.0.iter().filter(|(name, value)| other.0.get(name) != Some(value));
        let theirs = other.0.iter().filter(|(name, _)| !self.0.contains_key(name));
        let names = ours.chain(theirs);
        names.map(|((plugin, key), _)| format!("{PREFIX}{plugin}-{key}")).collect()
    }

    /// Finds the plugin of each of `unclaimed` among the files of `directory`; of one name the last counts.
    pub(super) fn claim(
        unclaimed: &[&Assignment],
        directory: &Path,
        report: &mut Report,
    ) -> PluginValues {
        if unclaimed.is_empty() {
            return PluginValues::default();
        }
        let plugins = names_in(directory);
        let mut claimed = BTreeMap::new();
        for assignment in unclaimed {
            let Assignment { name, value, origin } = *assignment;
            let rest = setting_key(&name[PREFIX.len()..]);
            let owner = plugins.iter().filter(|plugin| {
                let key = rest.strip_prefix(plugin.as_str());
                key.is_some_and(|key| key.len() > 1 && key.starts_with('-'))
            });
            match owner.max_by_key(|plugin| plugin.len()) {
                Some(_) if value.contains('\0') => {
                    let text = format!("the value of `{name}` holds a zero byte");
                    report.errors.push(Problem::new(origin.clone(), text));
                }
                Some(plugin) => {
                    let key = rest[plugin.len() + 1..].to_owned();
                    claimed.insert((plugin.clone(), key), value.clone());
                }
                None => refuse(name, origin, &plugins, directory, report),
            }
        }
        PluginValues(claimed)
    }
}

fn refuse(name: &str, origin: &Origin, plugins: &[String], directory: &Path, report: &mut Report) {
    if let Origin::Variable(_) = origin {
        let text = "names no setting, and none of a plugin; it is ignored";
        return report.warnings.push(Problem::new(origin.clone(), text));
    }
    let near = nearest(name).map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default();
    let there = match plugins {
        [] => "no plugins are there".to_owned(),
        _ => format!("plugins there: {}", plugins.join(", ")),
    };
    let text = format!(
        "`{name}` is neither a setting{near} nor one of a plugin in {} (`plugin-NAME-KEY`; {there})",
        directory.display()
    );
    report.errors.push(Problem::new(origin.clone(), text));
}

/// What the plugins of a directory are called in settings.
fn names_in(directory: &Path) -> Vec<String> {
    // A directory that cannot be listed is reported where plugins are loaded.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let plugins = files.filter(|name| name.ends_with(".so") && !name.starts_with('.'));
    let mut names: Vec<String> = plugins.map(|name| plugin_name(&name)).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(files: &[&str], lines: &[(&str, &str)]) -> (PluginValues, Report) {
        let directory = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| fs::write(directory.path().join(file), "").unwrap());
        let assignments: Vec<Assignment> = lines
            .iter()
            .map(|(name, value)| Assignment {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                origin: Origin::Argument,
            })
            .collect();
        let mut report = Report::default();
        let unclaimed: Vec<&Assignment> = assignments.iter().collect();
        let values = PluginValues::claim(&unclaimed, directory.path(), &mut report);
        (values, report)
    }

    #[test]
    fn the_longest_name_of_a_plugin_counts_and_the_last_value() {
        let files = ["10-redis.so", "20-redis_auth.so", "README", ".hidden.so"];
        let lines = [
            ("plugin-redis-host", "one"),
            ("plugin-redis-host", "two"),
            ("plugin-Redis_Auth-Host", "three"),
            ("plugin-redis-auth-port", "4"),
        ];
        let (values, report) = claimed(&files, &lines);
        let rows: Vec<_> = values.rows().collect();
        let expected = [
            ("redis", "host", "two"),
            ("redis-auth", "host", "three"),
            ("redis-auth", "port", "4"),
        ];
        assert_eq!(rows, expected);
        assert!(report.errors.is_empty(), "{report}");
        let (other, _) = claimed(&files, &lines[..3]);
        assert_eq!(values.differing(&other), ["plugin-redis-auth-port"]);
        assert_eq!(other.differing(&values), ["plugin-redis-auth-port"]);
    }

    #[test]
    fn a_name_of_no_plugin_is_an_error_that_tells_what_is_there_and_no_value() {
        let lines = [("plugin-dnsbl-zone", "secret"), ("plugin-timout", "5"), ("plugin-a-", "x")];
        let (values, report) = claimed(&["10-a.so"], &lines);
        assert_eq!(values, PluginValues::default());
        let text = report.to_string();
        assert_eq!(report.errors.len(), 3);
        assert!(text.contains("plugin-dnsbl-zone") && text.contains("plugins there: a"), "{text}");
        assert!(text.contains("did you mean `plugin-timeout`?"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
