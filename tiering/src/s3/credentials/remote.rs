//! The sources that answer over HTTP: the security token service (for a web identity), the container's
//! agent, and the instance's metadata. Their answers are bounded in time and size, and are never in
//! an error message: they hold secrets.

use super::{
    Credentials, World,
    sources::{CredentialError, Found},
};
use crate::s3::{without_address, xml};
use akidb_vfs::read_file;
use serde_json::Value;
use std::{path::Path, time::Duration};

/// An instance's metadata service is on the same machine: who does not answer soon is not there.
const NEAR: Duration = Duration::from_secs(2);
const FAR: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 256 << 10;

const WEB_IDENTITY: &str = "the web identity";
const CONTAINER: &str = "the container's agent";
const INSTANCE: &str = "the instance's metadata";

fn unreachable(origin: &'static str, detail: impl Into<String>) -> CredentialError {
    CredentialError::Unreachable { origin, detail: detail.into() }
}

/// A role that is taken on with a token from a file, as Kubernetes hands out.
pub(super) async fn web_identity(world: &World) -> Found {
    let variables = &world.variables;
    let (file, role) =
        (variables.get("AWS_WEB_IDENTITY_TOKEN_FILE"), variables.get("AWS_ROLE_ARN"));
    let (Some(file), Some(role)) = (file, role) else { return Ok(None) };
    let token = read_secret_file(world, WEB_IDENTITY, &file)?;
    let session = variables.get("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "akidb".to_owned());
    let url = variables
        .get("AWS_ENDPOINT_URL_STS")
        .unwrap_or_else(|| format!("https://sts.{}.amazonaws.com/", world.region));
    let mut form = reqwest::Url::parse(&url)
        .map_err(|error| unreachable(WEB_IDENTITY, format!("AWS_ENDPOINT_URL_STS: {error}")))?;
    let endpoint = form.clone();
    // In the body and not in the address: the token is a secret.
    form.query_pairs_mut()
        .clear()
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", &role)
        .append_pair("RoleSessionName", &session)
        .append_pair("WebIdentityToken", token.trim());
    let request = world
        .http
        .post(endpoint)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.query().unwrap_or_default().to_owned());
    let body = answer(WEB_IDENTITY, FAR, request).await?;
    let root = xml::parse(&body);
    let result = root.as_ref().and_then(|root| root.child("AssumeRoleWithWebIdentityResult"));
    let found = result.and_then(|result| result.child("Credentials"));
    let read = |name| found.and_then(|found| found.text(name));
    build(
        WEB_IDENTITY,
        [read("AccessKeyId"), read("SecretAccessKey"), read("SessionToken")],
        read("Expiration"),
    )
}

/// What a container's agent (ECS, EKS) hands out.
pub(super) async fn container(world: &World) -> Found {
    let variables = &world.variables;
    let url = match variables.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        Some(path) => format!("http://169.254.170.2{path}"),
        None => match variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
            Some(url) => url,
            None => return Ok(None),
        },
    };
    let url = reqwest::Url::parse(&url)
        .map_err(|error| unreachable(CONTAINER, format!("its address: {error}")))?;
    if url.scheme() != "https" && !is_near(&url) {
        // AWS's rule: whoever can set a variable must not have the answer sent over the network.
        return Err(unreachable(CONTAINER, "its address has no TLS and is not on this machine"));
    }
    let mut request = world.http.get(url);
    let token = match variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(read_secret_file(world, CONTAINER, &file)?),
        None => variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    if let Some(token) = token {
        request = request.header("authorization", token.trim());
    }
    from_json(CONTAINER, &answer(CONTAINER, NEAR, request).await?)
}

/// Loopback, and the two addresses at which the agents of ECS and EKS listen.
fn is_near(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    matches!(host, "localhost" | "[::1]" | "169.254.170.2" | "169.254.170.23" | "[fd00:ec2::23]")
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// What an instance of EC2 hands out, with a session token first (version 2 of the service).
pub(super) async fn instance(world: &World) -> Found {
    let variables = &world.variables;
    if variables.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.trim() == "true") {
        return Ok(None);
    }
    let base = variables.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let asked_for = base.is_some();
    let base = base.unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let base = base.trim_end_matches('/');
    let request = world
        .http
        .put(format!("{base}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", "300")
        .header("content-length", "0");
    let token = match answer(INSTANCE, NEAR, request).await {
        Ok(token) => token,
        // Nobody there: this is no instance.
        Err(_) if !asked_for => return Ok(None),
        Err(error) => return Err(error),
    };
    let token = String::from_utf8_lossy(&token).trim().to_owned();
    let get = |path: String| {
        let request = world.http.get(format!("{base}{path}"));
        answer(INSTANCE, NEAR, request.header("x-aws-ec2-metadata-token", token.clone()))
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let role = get(roles.to_owned()).await?;
    let role = String::from_utf8_lossy(&role);
    let Some(role) = role.lines().next().map(str::trim).filter(|role| !role.is_empty()) else {
        return Err(unreachable(INSTANCE, "the instance has no role"));
    };
    from_json(INSTANCE, &get(format!("{roles}{role}")).await?)
}

fn read_secret_file(
    world: &World,
    origin: &'static str,
    path: &str,
) -> Result<String, CredentialError> {
    let bytes = read_file(world.fs.as_ref(), Path::new(path));
    let bytes = bytes.map_err(|error| unreachable(origin, error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreachable(origin, format!("{path} is not UTF-8")))
}

/// The body of a good answer.
async fn answer(
    origin: &'static str,
    wait: Duration,
    request: reqwest::RequestBuilder,
) -> Result<Vec<u8>, CredentialError> {
    let lost = |error: reqwest::Error| unreachable(origin, without_address(error));
    let mut response = request.timeout(wait).send().await.map_err(lost)?;
    let status = response.status();
    if !status.is_success() {
        return Err(unreachable(origin, format!("HTTP {}", status.as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(unreachable(origin, "the answer is too long"));
        }
    }
    Ok(body)
}

fn from_json(origin: &'static str, body: &[u8]) -> Found {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let read = |name: &str| value.get(name).and_then(Value::as_str);
    build(origin, [read("AccessKeyId"), read("SecretAccessKey"), read("Token")], read("Expiration"))
}

/// Makes credentials of an id, a secret and a token, which a source on the network gives with the
/// time of their end.
fn build(origin: &'static str, parts: [Option<&str>; 3], end: Option<&str>) -> Found {
    let end = end.and_then(|end| end.parse::<jiff::Timestamp>().ok());
    match (parts, end) {
        ([Some(id), Some(secret), token], Some(end)) => {
            let credentials = Credentials::new(id, secret);
            let mut credentials = match token {
                Some(token) => credentials.with_token(token),
                None => credentials,
            };
            credentials.ends_at = u64::try_from(end.as_millisecond()).ok();
            Ok(Some(credentials))
        }
        _ => Err(unreachable(origin, "the answer lacks an id, a secret or an end")),
    }
}
