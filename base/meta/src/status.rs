//! metav1.Status: the one error shape clients see.
//!
//! Codes, reasons and sentences follow k8s.io/apimachinery/pkg/api/errors.

use crate::{GroupKind, GroupResource};
use serde::{Deserialize, Serialize};
use std::fmt;

/// metav1.Status. As an error it displays its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", default)]
#[error("{message}")]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// Always empty.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// `Success` or `Failure`.
    pub status: String,
    /// A sentence for a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A word for a program.
    #[serde(skip_serializing_if = "Reason::is_unknown")]
    pub reason: Reason,
    /// What the reason is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP status.
    pub code: u16,
}

/// metav1.StatusDetails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind or resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One entry a problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// metav1.StatusCause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusCause {
    /// A word for a program, such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

macro_rules! reasons {
    ($($name:ident),* $(,)?) => {
        /// metav1.StatusReason; the variants are upstream's words.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Reason {
            #[default]
            Unknown,
            $($name,)*
        }

        impl Reason {
            /// The word on the wire; empty when unknown.
            pub fn as_str(&self) -> &'static str {
                match self {
                    Self::Unknown => "",
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Reads the word; one that is not known here becomes `Unknown`.
            pub fn parse(word: &str) -> Self {
                match word {
                    $(stringify!($name) => Self::$name,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

reasons!(
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
);

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&std::borrow::Cow::<'de, str>::deserialize(d)?))
    }
}

impl Reason {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// The HTTP status that goes with the reason.
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::Unknown | Self::InternalError | Self::StoreReadError => 500,
            Self::ServiceUnavailable => 503,
            Self::ServerTimeout | Self::Timeout => 504,
        }
    }
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

impl Default for Status {
    fn default() -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: serde_json::Map::new(),
            status: "Failure".into(),
            message: String::new(),
            reason: Reason::Unknown,
            details: None,
            code: 500,
        }
    }
}

impl Status {
    /// A failure with a reason and its usual code.
    pub fn failure(reason: Reason, message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            reason,
            code: reason.code(),
            ..Self::default()
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details = Some(Box::new(StatusDetails {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..StatusDetails::default()
        }));
        self
    }

    /// 404 for one object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(Reason::NotFound, format_args!("{resource} {name:?} not found")).about(
            &resource.group,
            &resource.resource,
            name,
        )
    }

    /// 404 for a path nothing serves.
    pub fn path_not_found() -> Self {
        let mut status = Self::failure(Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409 for a name that is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(
            Reason::AlreadyExists,
            format_args!("{resource} {name:?} already exists"),
        )
        .about(&resource.group, &resource.resource, name)
    }

    /// 409 for a write on an outdated or otherwise contradicting state.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        Self::failure(
            Reason::Conflict,
            format_args!("Operation cannot be fulfilled on {resource} {name:?}: {why}"),
        )
        .about(&resource.group, &resource.resource, name)
    }

    /// 422 with one cause per problem; the message lists them as upstream does.
    pub fn invalid(kind: &GroupKind, name: &str, causes: Vec<StatusCause>) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for line in causes.iter().map(|c| format!("{}: {}", c.field, c.message)) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let list = match lines.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Self::failure(Reason::Invalid, format_args!("{kind} {name:?} is invalid: {list}")).about(
            &kind.group,
            &kind.kind,
            name,
        );
        if let Some(details) = &mut status.details {
            details.causes = causes;
        }
        status
    }

    /// 403.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let subject = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => "forbidden".to_owned(),
            (false, true) => format!("{resource} is forbidden"),
            (false, false) => format!("{resource} {name:?} is forbidden"),
        };
        Self::failure(Reason::Forbidden, format_args!("{subject}: {why}")).about(
            &resource.group,
            &resource.resource,
            name,
        )
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(Reason::Unauthorized, "Unauthorized")
    }

    /// 400.
    pub fn bad_request(why: impl fmt::Display) -> Self {
        Self::failure(Reason::BadRequest, why)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let mut status = Self::failure(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 405 for something that a resource cannot do though others can.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let why = format_args!("{action} is not supported on resources of kind \"{resource}\"");
        let mut status = Self::failure(Reason::MethodNotAllowed, why);
        status.details = Some(Box::new(StatusDetails {
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            ..StatusDetails::default()
        }));
        status
    }

    /// 410 for a revision that is no longer kept.
    pub fn expired(why: impl fmt::Display) -> Self {
        Self::failure(Reason::Expired, why)
    }

    /// 500.
    pub fn internal(why: impl fmt::Display) -> Self {
        let mut status = Self::failure(Reason::InternalError, format_args!("Internal error occurred: {why}"));
        status.details = Some(Box::new(StatusDetails {
            causes: vec![StatusCause {
                message: why.to_string(),
                ..StatusCause::default()
            }],
            ..StatusDetails::default()
        }));
        status
    }

    /// 503.
    pub fn unavailable(why: impl fmt::Display) -> Self {
        Self::failure(Reason::ServiceUnavailable, why)
    }

    /// 429 with the seconds to wait.
    pub fn too_many_requests(why: impl fmt::Display, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(Reason::TooManyRequests, why);
        status.details = Some(Box::new(StatusDetails {
            retry_after_seconds,
            ..StatusDetails::default()
        }));
        status
    }

    /// A success about nothing in particular.
    pub fn success() -> Self {
        Self {
            status: "Success".into(),
            code: 200,
            ..Self::default()
        }
    }

    /// Whether the reason is `NotFound`.
    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    /// Whether the reason is `AlreadyExists`.
    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    /// Whether the reason is `Conflict`.
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    /// Whether the revision asked for is gone.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason, Reason::Expired | Reason::Gone)
    }
}

impl StatusCause {
    /// A value that may not be what it is: `Invalid value: VALUE: WHY`.
    pub fn invalid(field: &str, value: impl fmt::Debug, why: impl fmt::Display) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {value:?}: {why}"))
    }

    /// A field that must be there.
    pub fn required(field: &str, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self::new("FieldValueRequired", field, message)
    }

    /// A field that may not be set.
    pub fn forbidden(field: &str, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// A value outside an enumeration.
    pub fn not_supported(field: &str, value: impl fmt::Debug, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self::new(
            "FieldValueNotSupported",
            field,
            format!("Unsupported value: {value:?}: supported values: {list}"),
        )
    }

    /// A value that may stand once only.
    pub fn duplicate(field: &str, value: impl fmt::Debug) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {value:?}"))
    }

    fn new(reason: &str, field: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
            field: field.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_read_as_upstreams() {
        let status = Status::not_found(&GroupResource::new("apps", "deployments"), "web");
        assert_eq!(
            serde_json::to_value(&status).expect("json"),
            serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "deployments.apps \"web\" not found", "reason": "NotFound",
                "details": {"name": "web", "group": "apps", "kind": "deployments"}, "code": 404,
            })
        );
    }

    #[test]
    fn an_unknown_reason_still_decodes() {
        let status: Status = serde_json::from_str(r#"{"reason":"Brewing","code":418}"#).expect("json");
        assert_eq!((status.reason, status.code), (Reason::Unknown, 418));
    }
}
