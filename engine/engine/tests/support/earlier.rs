//! A shim as it was in the first version: the real one behind a go-between that knows only what that version knew.
//!
//! What it does not know of a request it leaves out, as decoding does; a request that it does not know it answers as
//! unknown. Its answers and the engine's records lack what came later. `first-version.json` lists what there was.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use strata_sys::message;

/// Longest datagram; longer messages travel in a file, and are passed on as they are.
const LONGEST: usize = 64 << 10;

pub fn known() -> &'static Value {
    static KNOWN: OnceLock<Value> = OnceLock::new();
    KNOWN.get_or_init(|| serde_json::from_str(include_str!("../first-version.json")).expect("JSON"))
}

/// Takes the place of the shim whose folder this is. Ends with the shim.
pub fn stand_in(run: &Path) {
    let (front, back) = (run.join("shim.sock"), run.join("later.sock"));
    std::fs::rename(&front, &back).expect("the shim's socket");
    let listener = message::listen(front.to_str().expect("text"), 16).expect("listen");
    std::thread::spawn(move || {
        while await_input(&listener) {
            let Ok(client) = rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC) else {
                continue;
            };
            let Ok(shim) = message::connect(back.to_str().expect("text")) else {
                return;
            };
            let (client, shim) = (Arc::new(client), Arc::new(shim));
            let (other_client, other_shim) = (Arc::clone(&client), Arc::clone(&shim));
            std::thread::spawn(move || {
                pump(&client, &shim, |text| request(text, &client));
            });
            std::thread::spawn(move || pump(&other_shim, &other_client, reply));
        }
    });
}

fn await_input(socket: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(socket, PollFlags::IN)], None).is_ok()
}

/// Passes messages on until either side closes; `change` says what becomes of one, or that it goes no further.
fn pump(from: &OwnedFd, to: &OwnedFd, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut buffer = vec![0; LONGEST];
    while let Ok((length, descriptors)) = message::receive(from, &mut buffer) {
        if length == 0 {
            break;
        }
        let text = &buffer[..length];
        let Some(text) = (if text == b"M" {
            Some(text.to_vec())
        } else {
            change(text)
        }) else {
            continue;
        };
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        if message::send(to, &text, &borrowed).is_err() {
            break;
        }
    }
    for socket in [from, to] {
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}

/// The name of a message and its members; those without members are a name alone.
fn parts(text: &[u8]) -> (String, Value) {
    match serde_json::from_slice(text).expect("JSON") {
        Value::String(name) => (name, Value::Null),
        Value::Object(members) => members.into_iter().next().expect("a message"),
        other => panic!("neither a name nor an object: {other}"),
    }
}

fn whole(name: String, members: Value) -> Vec<u8> {
    let message = match members {
        Value::Null => Value::String(name),
        members => Value::Object(Map::from_iter([(name, members)])),
    };
    message.to_string().into_bytes()
}

/// Leaves only the members of a list.
pub fn keep(members: &mut Value, list: &Value) {
    let known: Vec<&str> = list
        .as_array()
        .expect("list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if let Value::Object(members) = members {
        members.retain(|name, _| known.contains(&name.as_str()));
    }
}

fn request(text: &[u8], client: &OwnedFd) -> Option<Vec<u8>> {
    let (name, mut members) = parts(text);
    match known()["requests"].get(&name) {
        Some(list) => {
            keep(&mut members, list);
            Some(whole(name, members))
        }
        None => {
            let why = format!("unknown request: unknown variant `{name}`");
            let refusal = json!({ "error": { "kind": "invalid", "message": why } });
            let _ = message::send(client, refusal.to_string().as_bytes(), &[]);
            None
        }
    }
}

fn reply(text: &[u8]) -> Option<Vec<u8>> {
    let (name, mut members) = parts(text);
    // What that version never said it does not say now.
    keep(&mut members, known()["replies"].get(&name)?);
    if let Some(Value::Object(containers)) = members.get_mut("containers") {
        for container in containers.values_mut() {
            keep(container, &known()["container_state"]);
        }
    }
    Some(whole(name, members))
}
