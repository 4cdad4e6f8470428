//! What a request may ask for beyond its object.

use serde::Serialize;
use serde_json::Value;
use strata_meta::Uid;

/// What a list is restricted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector, empty for all.
    pub label_selector: String,
    /// Field selector, empty for all.
    pub field_selector: String,
    /// The largest number of items in one answer.
    pub limit: Option<u32>,
    /// Where the previous answer ended.
    pub continue_token: String,
    /// Empty: the newest state; `0`: whatever the server has at hand.
    pub resource_version: String,
}

impl ListParams {
    /// Everything that carries these labels.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self {
            label_selector: selector.into(),
            ..Self::default()
        }
    }

    /// Everything that has these field values.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self {
            field_selector: selector.into(),
            ..Self::default()
        }
    }
}

/// A partial change.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Upstream's strategic merge, which merges lists by their keys.
    Strategic(Value),
}

impl Patch {
    /// The media type that names the format, and the body.
    pub fn parts(&self) -> (&'static str, &Value) {
        match self {
            Self::Json(body) => ("application/json-patch+json", body),
            Self::Merge(body) => ("application/merge-patch+json", body),
            Self::Strategic(body) => ("application/strategic-merge-patch+json", body),
        }
    }
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    /// They stay, without their owner.
    Orphan,
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
}

/// How an object is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds until the object is removed; absent: the kind's default.
    pub grace_period_seconds: Option<i64>,
    /// Delete only this life of the name.
    pub uid: Option<Uid>,
    /// Delete only this state.
    pub resource_version: Option<String>,
    /// Absent: the kind's default.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Deletes only the object with this identity.
    pub fn only(uid: &Uid) -> Self {
        Self {
            uid: Some(uid.clone()),
            ..Self::default()
        }
    }

    /// The metav1.DeleteOptions body.
    pub fn to_value(&self) -> Value {
        let mut body = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            }
            .into();
        }
        body
    }
}
