//! The config maps and secrets that pods of this node use, each watched while it is used.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_client::{Client, Error, Informer, Resource, Scope};
use strata_meta::{Object, ObjectError, ObjectKey, Uid};
use strata_task::CancellationToken;
use tokio::sync::mpsc;

/// How long the first list of one object may take before the API is asked directly, whose
/// answer then says what is wrong.
const FIRST_LIST: Duration = Duration::from_secs(5);

/// Pods whose objects changed and were not yet looked at; beyond this the change is found
/// at the pod's next regular look.
const CHANGES: usize = 4096;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Reference {
    resource: &'static str,
    key: ObjectKey,
}

struct Entry {
    informer: Informer<Arc<Object>>,
    users: Arc<Mutex<HashSet<Uid>>>,
    cancel: CancellationToken,
}

/// Objects by reference, shared by all pods that use them.
pub struct ObjectCache {
    client: Client,
    cancel: CancellationToken,
    entries: Mutex<HashMap<Reference, Entry>>,
    changes: mpsc::Sender<Uid>,
}

fn share(object: &Arc<Object>) -> Result<Arc<Object>, ObjectError> {
    Ok(object.clone())
}

impl ObjectCache {
    /// The cache, and the pods whose objects changed.
    pub fn new(client: Client, cancel: CancellationToken) -> (Self, mpsc::Receiver<Uid>) {
        let (changes, changed) = mpsc::channel(CHANGES);
        let cache = Self {
            client,
            cancel,
            entries: Mutex::default(),
            changes,
        };
        (cache, changed)
    }

    /// The object, `None` if it does not exist; from now on `user` hears of its changes.
    pub async fn get(
        &self,
        user: &Uid,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Error> {
        let key = ObjectKey::new(namespace, name);
        let informer = self.informer(user, resource, &key);
        if tokio::time::timeout(FIRST_LIST, informer.synced()).await.is_ok() {
            return Ok(informer.get(&key).map(|object| Arc::clone(object.as_ref())));
        }
        match self.client.get(resource, namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn informer(&self, user: &Uid, resource: Resource, key: &ObjectKey) -> Informer<Arc<Object>> {
        let reference = Reference {
            resource: resource.plural,
            key: key.clone(),
        };
        let mut entries = self.entries.lock().expect("no holder of this lock panics");
        let entry = entries.entry(reference).or_insert_with(|| self.watch(resource, key));
        entry
            .users
            .lock()
            .expect("no holder of this lock panics")
            .insert(user.clone());
        entry.informer.clone()
    }

    fn watch(&self, resource: Resource, key: &ObjectKey) -> Entry {
        let cancel = self.cancel.child_token();
        let scope = Scope {
            namespace: Some(key.namespace.to_string()),
            field_selector: format!("metadata.name={}", key.name),
            ..Scope::default()
        };
        let informer = Informer::start_with(&self.client, resource, scope, cancel.clone(), share);
        let users: Arc<Mutex<HashSet<Uid>>> = Arc::default();
        let (changes, listeners) = (self.changes.clone(), users.clone());
        informer.on_change(move |_| {
            for user in listeners.lock().expect("no holder of this lock panics").iter() {
                // A full queue means that a regular look is due anyhow.
                let _ = changes.try_send(user.clone());
            }
        });
        Entry {
            informer,
            users,
            cancel,
        }
    }

    /// Forgets a user; objects nobody uses are no longer watched.
    pub fn release(&self, user: &Uid) {
        self.entries
            .lock()
            .expect("no holder of this lock panics")
            .retain(|_, entry| {
                let mut users = entry.users.lock().expect("no holder of this lock panics");
                users.remove(user);
                let used = !users.is_empty();
                if !used {
                    entry.cancel.cancel();
                }
                used
            });
    }
}
