//! The chain of sources, and those that are files and variables.

use super::{Credentials, World, remote};
use akidb_vfs::read_file;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Files of credentials are short; a longer one is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why no credentials could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// No source is set up.
    #[error(
        "no credentials: none in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the profile files, \
         from a web identity, a container or this instance"
    )]
    None,
    /// A source is set up and incomplete.
    #[error("credentials from {origin}: {detail}")]
    Incomplete {
        /// Which source.
        origin: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A source did not answer, or refused.
    #[error("credentials from {origin}: {detail}")]
    Unreachable {
        /// Which source.
        origin: &'static str,
        /// What it said.
        detail: String,
    },
}

pub(super) type Found = Result<Option<Credentials>, CredentialError>;

/// The first source that is set up.
pub(super) async fn find(world: &World) -> Result<Credentials, CredentialError> {
    if let Some(found) = environment(world)? {
        return Ok(found);
    }
    if let Some(found) = profile(world)? {
        return Ok(found);
    }
    if let Some(found) = remote::web_identity(world).await? {
        return Ok(found);
    }
    if let Some(found) = remote::container(world).await? {
        return Ok(found);
    }
    remote::instance(world).await?.ok_or(CredentialError::None)
}

fn environment(world: &World) -> Found {
    let variables = &world.variables;
    let (id, secret) = (variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY"));
    let credentials = match (id, secret) {
        (None, None) => return Ok(None),
        (Some(id), Some(secret)) => Credentials::new(id, secret),
        _ => {
            let detail = "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or none";
            return Err(incomplete("the environment", detail));
        }
    };
    Ok(Some(match variables.get("AWS_SESSION_TOKEN") {
        Some(token) => credentials.with_token(token),
        None => credentials,
    }))
}

fn incomplete(origin: &'static str, detail: impl Into<String>) -> CredentialError {
    CredentialError::Incomplete { origin, detail: detail.into() }
}

/// The profile that `AWS_PROFILE` names, in the two files of AWS's tools.
fn profile(world: &World) -> Found {
    const ORIGIN: &str = "the profile files";
    let named = world.variables.get("AWS_PROFILE");
    let name = named.clone().unwrap_or_else(|| "default".to_owned());
    let files =
        [("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), ("AWS_CONFIG_FILE", ".aws/config")];
    let mut found = BTreeMap::new();
    let mut seen = false;
    for (variable, default) in files {
        let set = world.variables.get(variable).map(PathBuf::from);
        let Some(path) = set.or_else(|| world.home(default)) else { continue };
        let Some(text) = read(world, &path)? else { continue };
        if let Some(section) = section(&text, &name) {
            seen = true;
            for (key, value) in section {
                found.entry(key).or_insert(value);
            }
        }
    }
    let take = |key: &str| found.get(key).filter(|value| !value.is_empty()).cloned();
    match (take("aws_access_key_id"), take("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            let credentials = Credentials::new(id, secret);
            Ok(Some(match take("aws_session_token") {
                Some(token) => credentials.with_token(token),
                None => credentials,
            }))
        }
        (None, None) if found.keys().any(|key| is_indirect(key)) => Err(incomplete(
            ORIGIN,
            format!(
                "the profile {name:?} names another source (role, process or single sign-on), \
                 which only AWS's tools can ask; export keys from them instead"
            ),
        )),
        (None, None) if named.is_none() => Ok(None),
        (None, None) if !seen => Err(incomplete(ORIGIN, format!("no profile {name:?}"))),
        _ => Err(incomplete(ORIGIN, format!("the profile {name:?} lacks an id or a secret"))),
    }
}

fn is_indirect(key: &str) -> bool {
    matches!(key, "role_arn" | "source_profile" | "credential_process") || key.starts_with("sso_")
}

fn read(world: &World, path: &Path) -> Result<Option<String>, CredentialError> {
    let failed = |detail: String| incomplete("the profile files", detail);
    match world.fs.metadata(path) {
        Ok(meta) if meta.len <= FILE_BYTES_MAX => {}
        Ok(_) => return Err(failed(format!("{} is too long", path.display()))),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    }
    let bytes = read_file(world.fs.as_ref(), path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| failed(format!("{} is not UTF-8", path.display())))
}

/// The settings of `[name]` or `[profile name]`; `None` if there is no such section.
fn section(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut found: Option<Vec<(String, String)>> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default().trim();
            let header = header.strip_prefix("profile ").map_or(header, str::trim);
            inside = header == name;
            if inside {
                found.get_or_insert_default();
            }
        } else if let Some((key, value)) = line.split_once('=')
            && inside
            && !line.starts_with(['#', ';'])
        {
            let pair = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
            found.get_or_insert_default().push(pair);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::settings::S3Settings;
    use akidb_vfs::{RealFs, SystemClock, SystemRandom};
    use std::sync::Arc;

    fn world(variables: &[(&str, &str)]) -> World {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = S3Settings::new("rows").variables(variables.iter().map(own).collect());
        let tls = crate::s3::tls::config(&RealFs, None).expect("the system's certificates");
        World {
            variables: settings.variables,
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom::from_seed(1)),
            http: reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .build()
                .expect("a client"),
            region: "us-east-1".into(),
        }
    }

    #[test]
    fn the_environment_gives_both_or_nothing() {
        assert!(environment(&world(&[])).unwrap().is_none());
        let id = ("AWS_ACCESS_KEY_ID", "id");
        assert!(environment(&world(&[id])).is_err());
        let both = [id, ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
        let found = environment(&world(&both)).unwrap();
        assert_eq!(found, Some(Credentials::new("id", "s").with_token("t")));
    }

    #[test]
    fn a_profile_is_read_from_both_files_and_its_lack_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let write = |name: &str, text: &str| {
            akidb_vfs::write_file_durably(&RealFs, &dir.path().join(name), text.as_bytes())
                .unwrap();
        };
        let text = "[default]\naws_access_key_id = one\naws_secret_access_key=s=1\n\
                    [two]\naws_access_key_id=two\n# aws_secret_access_key=no\n";
        write("credentials", text);
        write("config", "[profile two]\naws_secret_access_key = s2\n[profile sso]\nsso_region=x\n");
        let (credentials, config) = (path("credentials"), path("config"));
        let files = [("AWS_SHARED_CREDENTIALS_FILE", &*credentials), ("AWS_CONFIG_FILE", &*config)];
        let found = |name: Option<&str>| {
            let mut variables = files.to_vec();
            variables.extend(name.map(|name| ("AWS_PROFILE", name)));
            profile(&world(&variables))
        };
        assert_eq!(found(None).unwrap(), Some(Credentials::new("one", "s=1")));
        assert_eq!(found(Some("two")).unwrap(), Some(Credentials::new("two", "s2")));
        assert!(found(Some("three")).unwrap_err().to_string().contains("three"));
        assert!(found(Some("sso")).unwrap_err().to_string().contains("another source"));
        let nowhere = path("nowhere");
        let none = [("AWS_SHARED_CREDENTIALS_FILE", &*nowhere), ("AWS_CONFIG_FILE", &*nowhere)];
        assert_eq!(profile(&world(&none)).unwrap(), None);
    }

    #[test]
    fn debug_shows_the_id_and_no_secret() {
        let text = format!("{:?}", Credentials::new("the-id", "hush").with_token("hush-too"));
        assert!(text.contains("the-id") && !text.contains("hush"), "{text}");
    }
}
