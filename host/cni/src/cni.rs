//! Sandboxes on the network that the administrator configured.

use crate::attachment::{Attachment, Shelf, arguments, check_container, namespace_path};
use crate::config::{NetworkList, Version};
use crate::namespace::{is_pinned, pin, unpin};
use crate::outcome::{Addresses, in_version};
use crate::plugin::{self, Call};
use crate::{Error, outcome};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a plugin may take: a kubelet waits for a sandbox four minutes, with several plugins in it.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a plugin may think whether it is well.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// Plugins that run at a time; the sandboxes of more wait.
const AT_A_TIME: usize = 64;
/// The link's name, as everybody has it.
const LINK: &str = "eth0";

/// Where everything is.
#[derive(Clone, Debug)]
pub struct CniOptions {
    /// Folder of network configurations; the first file counts, read anew each time.
    pub conf_dir: PathBuf,
    /// Folders of plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// Where attachments are remembered.
    pub state_dir: PathBuf,
    /// Where network namespaces get names.
    pub namespace_dir: PathBuf,
}

/// What a sandbox wants of its network.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Told to plugins as CNI_ARGS.
    pub arguments: Vec<(String, String)>,
    /// Told to plugins that have the capability of that name.
    pub capabilities: Map<String, Value>,
}

/// Attaches sandboxes to a network by running its plugins, and takes them back.
#[derive(Debug)]
pub struct Cni {
    options: CniOptions,
    shelf: Shelf,
    known: Mutex<HashMap<String, Arc<Entry>>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct Entry {
    /// One thing at a time happens to a sandbox.
    turn: tokio::sync::Mutex<()>,
    attachment: Mutex<Attachment>,
}

impl Entry {
    fn new(attachment: Attachment) -> Arc<Self> {
        Arc::new(Self {
            turn: tokio::sync::Mutex::new(()),
            attachment: Mutex::new(attachment),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Attachment> {
        self.attachment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cni {
    /// Opens the records of an earlier process; no plugin is run. Blocking.
    pub fn open(options: CniOptions) -> Result<Self, Error> {
        let (shelf, found) = Shelf::open(options.state_dir.clone())?;
        let known = found
            .into_iter()
            .map(|attachment| (attachment.container.clone(), Entry::new(attachment)));
        Ok(Self {
            known: Mutex::new(known.collect()),
            shelf,
            options,
            turns: Semaphore::new(AT_A_TIME),
        })
    }

    /// Attaches a sandbox: ADD. When a plugin refuses, what the others did is taken back.
    ///
    /// Errors: if even that failed, the sandbox [is known](Cni::knows) still and [`Cni::delete`] tries again.
    pub async fn add(&self, container: &str, namespace: OwnedFd, wish: Wish) -> Result<Addresses, Error> {
        check_container(container)?;
        let list = self.network().await?;
        let attachment = Attachment {
            container: container.to_owned(),
            network: list.source.clone(),
            link: LINK.to_owned(),
            namespace: namespace_path(&self.options.namespace_dir, container),
            arguments: arguments(&wish.arguments)?,
            capabilities: wish.capabilities,
            result: None,
        };
        let entry = Entry::new(attachment.clone());
        let _turn = entry.turn.lock().await;
        // Who is attached stays so, with what the plugins answered: it is taken back by that.
        match self.lock().entry(container.to_owned()) {
            MapEntry::Occupied(_) => return Err(Error::Invalid(format!("{container} is attached already"))),
            MapEntry::Vacant(place) => place.insert(Arc::clone(&entry)),
        };
        match self.attach(&list, attachment.clone(), namespace).await {
            Ok((attached, addresses)) => {
                *entry.lock() = attached;
                Ok(addresses)
            }
            Err(error) => {
                if let Err(left) = self.take_back(&attachment).await {
                    tracing::warn!(container, error = %left, "could not take back what network plugins did");
                }
                Err(error)
            }
        }
    }

    async fn attach(
        &self,
        list: &NetworkList,
        attachment: Attachment,
        namespace: OwnedFd,
    ) -> Result<(Attachment, Addresses), Error> {
        // Written first, so that whatever plugins do is found again.
        let (shelf, first) = (self.shelf.clone(), attachment.clone());
        blocking(move || {
            shelf.write(&first)?;
            pin(namespace.as_fd(), &first.namespace)
        })
        .await?;
        let mut attached = attachment;
        let _permit = self.turns.acquire().await.map_err(closed)?;
        for settings in &list.plugins {
            let given = list.settings(settings, &attached.capabilities, attached.result.as_ref());
            let kind = NetworkList::kind(settings);
            let failed = |why| Error::Plugin {
                plugin: kind.to_owned(),
                command: "add".into(),
                code: None,
                why,
            };
            let answer = self.run("ADD", kind, &attached, given).await?;
            let result = serde_json::from_slice(&answer).map_err(|e| failed(format!("its answer is not JSON: {e}")))?;
            attached.result = Some(in_version(result, list.version).map_err(failed)?);
        }
        let result = attached.result.clone().unwrap_or(Value::Null);
        let addresses = Addresses::of(&result, LINK).map_err(Error::Invalid)?;
        if addresses.0.is_empty() {
            let why = format!("network {:?} gave the sandbox no address", list.name);
            return Err(Error::Invalid(why));
        }
        let (shelf, last) = (self.shelf.clone(), attached.clone());
        blocking(move || shelf.write(&last)).await?;
        Ok((attached, addresses))
    }

    /// Takes a sandbox back: DEL, in reverse order. One that is not known is fine.
    ///
    /// Errors: it stays known, to be tried again.
    pub async fn delete(&self, container: &str) -> Result<(), Error> {
        let Some(entry) = self.entry(container) else {
            return Ok(());
        };
        let _turn = entry.turn.lock().await;
        // Somebody else did it meanwhile.
        if !self.knows(container) {
            return Ok(());
        }
        let attachment = entry.lock().clone();
        self.take_back(&attachment).await
    }

    async fn take_back(&self, attachment: &Attachment) -> Result<(), Error> {
        let list = attachment.list()?;
        let previous = attachment.result.as_ref().filter(|_| list.version >= Version::CHECK);
        {
            let _permit = self.turns.acquire().await.map_err(closed)?;
            for settings in list.plugins.iter().rev() {
                let given = list.settings(settings, &attachment.capabilities, previous);
                self.run("DEL", NetworkList::kind(settings), attachment, given).await?;
            }
        }
        let (shelf, own) = (self.shelf.clone(), attachment.clone());
        blocking(move || {
            unpin(&own.namespace)?;
            shelf.remove(&own.container)
        })
        .await?;
        self.lock().remove(&attachment.container);
        Ok(())
    }

    /// Asks the plugins whether a sandbox is attached as it was: CHECK. Networks that do not know how are fine.
    pub async fn check(&self, container: &str) -> Result<(), Error> {
        let Some(entry) = self.entry(container) else {
            return Ok(());
        };
        let _turn = entry.turn.lock().await;
        let attachment = entry.lock().clone();
        let list = attachment.list()?;
        if list.disable_check || list.version < Version::CHECK {
            return Ok(());
        }
        let _permit = self.turns.acquire().await.map_err(closed)?;
        for settings in &list.plugins {
            let given = list.settings(settings, &attachment.capabilities, attachment.result.as_ref());
            self.run("CHECK", NetworkList::kind(settings), &attachment, given)
                .await?;
        }
        Ok(())
    }

    /// Takes back every sandbox that is not among the living, and lets plugins forget what nobody has: GC.
    pub async fn collect(&self, living: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.lock().keys().filter(|id| !living(id)).cloned().collect();
        for container in gone {
            if let Err(error) = self.delete(&container).await {
                tracing::warn!(container, %error, "could not take a sandbox off its network that has gone");
            }
        }
        if let Err(error) = self.collect_garbage().await {
            tracing::debug!(%error, "network plugins did not look for what nobody has");
        }
    }

    async fn collect_garbage(&self) -> Result<(), Error> {
        let list = self.network().await?;
        if list.disable_gc || list.version < Version::STATUS {
            return Ok(());
        }
        let valid: Vec<Value> = {
            let known = self.lock();
            let attachments = known.values().map(|entry| entry.lock().clone());
            attachments
                .filter(|one| one.network.get("name").and_then(Value::as_str) == Some(list.name.as_str()))
                .map(|one| json!({"containerID": one.container, "ifname": one.link}))
                .collect()
        };
        for settings in &list.plugins {
            let mut given = list.settings(settings, &Map::new(), None);
            given.insert("cni.dev/valid-attachments".into(), valid.clone().into());
            self.run_apart("GC", NetworkList::kind(settings), given, LIMIT).await?;
        }
        Ok(())
    }

    /// Whether sandboxes can be attached: there is a network, its plugins are there, and say that they are well.
    pub async fn status(&self) -> Result<(), Error> {
        let list = self.network().await?;
        for settings in &list.plugins {
            plugin::find(NetworkList::kind(settings), &self.options.bin_dirs)?;
        }
        if list.version < Version::STATUS {
            return Ok(());
        }
        for settings in &list.plugins {
            let given = list.settings(settings, &Map::new(), None);
            self.run_apart("STATUS", NetworkList::kind(settings), given, STATUS_LIMIT)
                .await?;
        }
        Ok(())
    }

    /// The network that is configured now.
    pub async fn network(&self) -> Result<NetworkList, Error> {
        let folder = self.options.conf_dir.clone();
        let found = blocking(move || NetworkList::load(&folder)).await?;
        let (_, list) = found.ok_or_else(|| Error::NotInitialized(self.options.conf_dir.clone()))?;
        Ok(list)
    }

    /// The addresses of a sandbox; nothing if it is not attached, or not wholly.
    pub fn addresses(&self, container: &str) -> Option<Addresses> {
        let entry = self.entry(container)?;
        let result = entry.lock().result.clone()?;
        outcome::Addresses::of(&result, LINK).ok()
    }

    /// Whether something of a sandbox is to be taken back.
    pub fn knows(&self, container: &str) -> bool {
        self.lock().contains_key(container)
    }

    /// What plugins answered about a sandbox.
    pub fn result(&self, container: &str) -> Option<Value> {
        self.entry(container)?.lock().result.clone()
    }

    async fn run(
        &self,
        command: &'static str,
        kind: &str,
        to: &Attachment,
        settings: Map<String, Value>,
    ) -> Result<Vec<u8>, Error> {
        let namespace = match is_pinned(&to.namespace) {
            true => to.namespace.to_string_lossy().into_owned(),
            false => String::new(),
        };
        let call = Call {
            command,
            container: &to.container,
            namespace: &namespace,
            link: &to.link,
            arguments: &to.arguments,
            folders: &self.options.bin_dirs,
            limit: LIMIT,
        };
        plugin::run(kind, &call, &settings.into()).await
    }

    /// Runs what concerns no container.
    async fn run_apart(
        &self,
        command: &'static str,
        kind: &str,
        settings: Map<String, Value>,
        limit: Duration,
    ) -> Result<(), Error> {
        let call = Call {
            command,
            container: "",
            namespace: "",
            link: "",
            arguments: "",
            folders: &self.options.bin_dirs,
            limit,
        };
        plugin::run(kind, &call, &settings.into()).await.map(drop)
    }

    fn entry(&self, container: &str) -> Option<Arc<Entry>> {
        self.lock().get(container).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed(error: tokio::sync::AcquireError) -> Error {
    Error::Invalid(error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Invalid(error.to_string()))?
}
