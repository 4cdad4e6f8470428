//! What every request and answer is wrapped in, and the messages that all packages know.

use alloc::{string::String, vec::Vec};

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Such as `containerd.task.v2.Task`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Such as `Create`.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits, in nanoseconds; 0 is for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Further facts, such as the namespace.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// One further fact about a call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer to a call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// Absent or code 0: it went well.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RpcStatus>,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    /// One of [`Code`].
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Codes of [`RpcStatus`] (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Whatever has no code of its own.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// No such thing.
    NotFound = 5,
    /// The name is taken.
    AlreadyExists = 6,
    /// A limit was hit.
    ResourceExhausted = 8,
    /// Not possible in the present state.
    FailedPrecondition = 9,
    /// No such method, or not supported.
    Unimplemented = 12,
    /// Not any more.
    Unavailable = 14,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// What `value` is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, or JSON where the type is one of the runtime specification.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Timestamp {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Of the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// Nanoseconds since 1970.
    pub fn from_nanoseconds(time: u64) -> Self {
        Timestamp {
            seconds: (time / 1_000_000_000) as i64,
            nanos: (time % 1_000_000_000) as i32,
        }
    }
}

/// `runtimeoptions.v1.Options`: what containerd's CRI plugin passes to runtimes it does not know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeOptions {
    /// What the settings are.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// A file with them.
    #[prost(string, tag = "2")]
    pub config_path: String,
    /// Themselves, when there is no file.
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}
