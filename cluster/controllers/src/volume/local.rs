//! The provisioner of volumes on the disks of nodes, and its storage class.
//!
//! What is made and where is decided here, by whoever may write volumes; a node makes, grows and removes what it is
//! told through its proxy, and needs no rights of its own for that.

use super::{
    Claim, ClassView, Volume, tracked,
    types::{ClaimView, PROVISIONED_BY, PROVISIONERS, SELECTED_NODE, VolumeView},
};
use crate::{
    Error,
    context::Context,
    error::During,
    tracked::{Tracked, value},
};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use strata_client::{
    Client, DeleteOptions, EventRecorder, EventType, Informer, ObjectReference, WorkQueue,
    resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES},
};
use strata_meta::{Object, ObjectKey};

const CONTROLLER: &str = "local-volume-provisioner";
const PROVISIONER: &str = "strata.local/volume";
/// On a volume: the node that holds it.
const NODE: &str = "strata.local/node";
/// Keeps a volume until its node has removed it.
const FINALIZER: &str = "strata.local/volume";
const CLASS: &str = "local";
/// `Image` keeps the size, `Folder` does not.
const KIND_PARAMETER: &str = "kind";
const HOSTNAME: &str = "kubernetes.io/hostname";
const WORKERS: usize = 4;
/// A node that has refused to let a volume grow is asked again then.
const RESIZE_AGAIN: Duration = Duration::from_secs(300);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    /// There is a node: the class is of use.
    Class,
    Claim(ObjectKey),
    Volume(ObjectKey),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class => f.write_str("the class of local volumes"),
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(key) => write!(f, "volume {}", key.name),
        }
    }
}

struct Provisioner {
    client: Client,
    events: EventRecorder,
    context: Arc<Context>,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<Tracked<ClassView>>,
    /// Whoever deletes the class wants none, until the next start.
    class_made: AtomicBool,
}

pub(super) fn start(
    context: &Arc<Context>,
    claims: &Informer<Claim>,
    volumes: &Informer<Volume>,
    classes: &Informer<Tracked<ClassView>>,
) {
    let queue: WorkQueue<Work> = context.queue("local_volumes");
    let to = queue.clone();
    claims.on_change(move |change| {
        if change.new.as_ref().is_some_and(|claim| is_asked(claim)) {
            to.add(Work::Claim(change.key.clone()));
        }
    });
    let to = queue.clone();
    volumes.on_change(move |change| {
        if change.new.as_ref().is_some_and(|volume| is_ours(volume)) {
            to.add(Work::Volume(change.key.clone()));
        }
    });
    let to = queue.clone();
    context.nodes.on_change(move |change| {
        if change.old.is_none() && change.new.is_some() {
            to.add(Work::Class);
        }
    });
    let provisioner = Arc::new(Provisioner {
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        context: context.clone(),
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: classes.clone(),
        class_made: AtomicBool::new(false),
    });
    let all = provisioner.clone();
    let ready = async move {
        all.claims.synced().await;
        all.volumes.synced().await;
        all.classes.synced().await;
        all.context.nodes.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |work| provisioner.clone().reconcile(work));
}

fn is_asked(claim: &Claim) -> bool {
    let asked = claim.view.metadata.annotations.get(PROVISIONERS[1]);
    !claim.deleting && asked.is_some_and(|name| name == PROVISIONER)
}

fn is_ours(volume: &Volume) -> bool {
    let by = volume.view.metadata.annotations.get(PROVISIONED_BY);
    by.is_some_and(|by| by == PROVISIONER)
}

/// Whether the data of a volume are to go now.
fn is_to_be_removed(volume: &Volume) -> bool {
    let view = &volume.view;
    let held = view.metadata.finalizers.iter().any(|name| name == FINALIZER);
    let deletes = view.spec.persistent_volume_reclaim_policy == "Delete";
    match volume.deleting {
        // Its claim has it still, or it was released before the policy was changed to keep it.
        true => held && view.status.phase != "Bound",
        false => deletes && view.status.phase == "Released",
    }
}

/// What of a claim cannot be had.
fn refusal(claim: &Claim, class: &ClassView) -> Option<String> {
    let spec = &claim.view.spec;
    let local = ["ReadWriteOnce", "ReadWriteOncePod"];
    if claim.view.mode() != "Filesystem" {
        return Some(format!("volumeMode {} is not supported", claim.view.mode()));
    }
    if let Some(mode) = spec.access_modes.iter().find(|mode| !local.contains(&mode.as_str())) {
        return Some(format!(
            "access mode {mode} is not supported: the volume is on one node"
        ));
    }
    if spec.selector.is_some() {
        return Some("a selector is not supported".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("a data source is not supported".to_owned());
    }
    if !class.mount_options.is_empty() {
        return Some("mount options are not supported".to_owned());
    }
    None
}

impl Provisioner {
    async fn reconcile(self: Arc<Self>, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Class => self.make_class().await?,
            Work::Claim(key) => {
                if let Some(claim) = self.claims.get(&key).filter(|claim| is_asked(claim)) {
                    match claim.view.spec.volume_name.as_str() {
                        "" => self.provision(&claim).await?,
                        name => return self.expand(&claim, name).await,
                    }
                }
            }
            Work::Volume(key) => {
                if let Some(volume) = self.volumes.get(&key).filter(|volume| is_to_be_removed(volume)) {
                    self.remove(&volume).await?;
                }
            }
        }
        Ok(None)
    }

    fn tell(&self, about: &Object, event_type: EventType, reason: &str, message: String) {
        self.events
            .event(&ObjectReference::of(about), event_type, reason, message);
    }

    /// The class, which is the default one where there is no other.
    async fn make_class(&self) -> Result<(), Error> {
        if self.class_made.load(Ordering::Relaxed) {
            return Ok(());
        }
        let is_default = self.classes.select(|_, class| class.view.is_default()).is_empty();
        let class = json!({"metadata": {"name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": is_default.to_string()}},
            "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": true});
        match self.client.create(STORAGE_CLASSES, "", &class).await {
            Err(error) if !error.is_already_exists() => {
                return Err(error).during(|| "making the class of local volumes".to_owned());
            }
            _ => self.class_made.store(true, Ordering::Relaxed),
        }
        Ok(())
    }

    /// The node that a claim's volume is made on; that of the fewest volumes where nobody has chosen.
    fn node_for(&self, claim: &Claim) -> Option<String> {
        if let Some(chosen) = claim.view.metadata.annotations.get(SELECTED_NODE) {
            return Some(chosen.clone());
        }
        let held = self.volumes.select(|_, volume| is_ours(volume));
        let count = |node: &str| {
            let on = |volume: &Volume| volume.view.metadata.annotations.get(NODE).is_some_and(|on| on == node);
            held.iter().filter(|(_, volume)| on(volume)).count()
        };
        let usable = |node: &crate::views::Node| node.view.is_ready() && !node.view.spec.unschedulable;
        let nodes = self.context.nodes.select(|_, node| usable(node));
        let names = nodes.into_iter().map(|(key, _)| key.name.to_string());
        names.min_by_key(|name| (count(name), name.clone()))
    }

    async fn provision(&self, claim: &Arc<Claim>) -> Result<(), Error> {
        let class = self.classes.get(&ObjectKey::new("", claim.view.class()));
        let Some(class) = class.filter(|class| class.view.provisioner == PROVISIONER) else {
            return Ok(());
        };
        let chosen = claim.view.has(SELECTED_NODE);
        let name = format!("pvc-{}", claim.uid);
        let known = self.volumes.get(&ObjectKey::new("", &name)).is_some();
        if known || class.view.waits() && !chosen {
            return Ok(());
        }
        let fail = |why: &str| {
            let why = format!("failed to provision volume with StorageClass {:?}: {why}", class.name());
            self.tell(claim, EventType::Warning, "ProvisioningFailed", why);
        };
        if let Some(why) = refusal(claim, &class.view) {
            fail(&why);
            return Ok(());
        }
        let Some(node) = self.node_for(claim) else {
            fail("no node is ready");
            return Err(Error::Incomplete(format!("no node for claim {}", claim.key)));
        };
        let begun = format!(
            "External provisioner is provisioning volume for claim {:?}",
            claim.key.to_string()
        );
        self.tell(claim, EventType::Normal, "Provisioning", begun);
        let made = self.provide(&node, &name, claim, &class.view).await;
        let path = match made {
            Ok(path) => path,
            Err(error) => {
                fail(&error.to_string());
                if chosen {
                    self.reschedule(claim).await?;
                }
                return Err(error);
            }
        };
        let volume = self.volume(claim, &class, &name, &node, &path);
        match self.client.create(PERSISTENT_VOLUMES, "", &volume).await {
            Err(error) if !error.is_already_exists() => return Err(error).during(|| format!("creating volume {name}")),
            _ => {}
        }
        let done = format!("Successfully provisioned volume {name}");
        self.tell(claim, EventType::Normal, "ProvisioningSucceeded", done);
        Ok(())
    }

    /// Has a node make a volume or let it grow; tells its path there.
    async fn provide(&self, node: &str, name: &str, claim: &Claim, class: &ClassView) -> Result<String, Error> {
        let kind = class.parameters.get(KIND_PARAMETER).map_or("Image", String::as_str);
        let size = claim.view.requested().value();
        let plain = kind.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain {
            return Err(Error::Incomplete(format!("kind {kind:?} is not known")));
        }
        // Users write the annotation that the name is from; that of a node holds nothing that would end a path.
        if self.context.nodes.get(&ObjectKey::new("", node)).is_none() {
            return Err(Error::Incomplete(format!(
                "Failed to get target node: node {node:?} not found"
            )));
        }
        let path = format!("{}?size={size}&kind={kind}", proxied(node, name));
        let answer = self.client.put_path(&path).await;
        let answer = answer.during(|| format!("node {node} making volume {name}"))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(strata_client::Error::from)?;
        let path = answer["path"].as_str().map(str::to_owned);
        path.ok_or_else(|| Error::Incomplete(format!("node {node} does not say where volume {name} is")))
    }

    /// Gives the choice of a node back to the scheduler.
    async fn reschedule(&self, claim: &Claim) -> Result<(), Error> {
        let mut wanted = value(claim)?;
        if let Some(annotations) = wanted["metadata"]["annotations"].as_object_mut() {
            annotations.remove(SELECTED_NODE);
        }
        let key = &claim.key;
        let written = self
            .client
            .update(PERSISTENT_VOLUME_CLAIMS, &key.namespace, &key.name, &wanted)
            .await;
        match written {
            Err(error) if !error.is_not_found() => Err(error).during(|| format!("rescheduling claim {key}")),
            _ => Ok(()),
        }
    }

    fn volume(&self, claim: &Claim, class: &Tracked<ClassView>, name: &str, node: &str, path: &str) -> Value {
        let known = self.context.nodes.get(&ObjectKey::new("", node));
        let hostname = known.as_ref().and_then(|node| node.label(HOSTNAME)).unwrap_or(node);
        let finalizers = match class.view.reclaim_policy.as_str() {
            "Delete" => json!([FINALIZER]),
            _ => json!([]),
        };
        let affinity = json!([{"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]}]);
        json!({"metadata": {"name": name, "finalizers": finalizers,
                "annotations": {PROVISIONED_BY: PROVISIONER, NODE: node}},
            "spec": {"capacity": {"storage": claim.view.requested()}, "accessModes": claim.view.spec.access_modes,
                "persistentVolumeReclaimPolicy": class.view.reclaim_policy, "storageClassName": class.name(),
                "volumeMode": "Filesystem", "local": {"path": path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": affinity}},
                "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": claim.namespace(),
                    "name": claim.name(), "uid": claim.uid, "resourceVersion": claim.revision.to_string()}}})
    }

    /// Lets a volume grow to what its claim asks for by now.
    async fn expand(&self, claim: &Arc<Claim>, name: &str) -> Result<Option<Duration>, Error> {
        let wanted = claim.view.requested();
        let has = claim.view.status.capacity.get("storage").copied().unwrap_or_default();
        let volume = self.volumes.get(&ObjectKey::new("", name)).filter(|v| is_ours(v));
        let Some(volume) = volume.filter(|_| claim.view.is_completed() && has < wanted && !has.is_zero()) else {
            return Ok(None);
        };
        let (Some(node), Some(class)) = (
            volume.view.metadata.annotations.get(NODE),
            self.classes.get(&ObjectKey::new("", claim.view.class())),
        ) else {
            return Ok(None);
        };
        if let Err(error) = self.provide(node, name, claim, &class.view).await {
            self.tell(claim, EventType::Warning, "VolumeResizeFailed", error.to_string());
            return Ok(Some(RESIZE_AGAIN));
        }
        if volume.view.capacity() < wanted {
            let mut larger = value(&volume)?;
            larger["spec"]["capacity"]["storage"] = json!(wanted);
            let written = self.client.update(PERSISTENT_VOLUMES, "", name, &larger).await;
            written.during(|| format!("writing the size of volume {name}"))?;
        }
        let mut grown = value(claim)?;
        grown["status"]["capacity"]["storage"] = json!(wanted);
        let key = &claim.key;
        let written = self
            .client
            .update_status(PERSISTENT_VOLUME_CLAIMS, &key.namespace, &key.name, &grown);
        let grown = written.await.during(|| format!("writing the size of claim {key}"))?;
        let grown: Claim = tracked::<ClaimView>(grown)?;
        let done = format!("ExpandVolume succeeded for volume {key}");
        self.tell(&grown, EventType::Normal, "VolumeResizeSuccessful", done);
        Ok(None)
    }

    /// Has the node remove a volume, and forgets it then. A node that is gone has taken it along.
    async fn remove(&self, volume: &Arc<Volume>) -> Result<(), Error> {
        let name = volume.name();
        let node = volume.view.metadata.annotations.get(NODE);
        if let Some(node) = node.filter(|node| self.context.nodes.get(&ObjectKey::new("", node)).is_some()) {
            let removed = self.client.delete_path(&proxied(node, name)).await;
            if let Err(error) = removed.during(|| format!("node {node} removing volume {name}")) {
                self.tell(volume, EventType::Warning, "VolumeFailedDelete", error.to_string());
                return Err(error);
            }
        }
        let mut wanted = value(volume)?;
        let mut finalizers = volume.view.metadata.finalizers.clone();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        wanted["metadata"]["finalizers"] = json!(finalizers);
        let written = match self.client.update(PERSISTENT_VOLUMES, "", name, &wanted).await {
            Err(error) if error.is_not_found() => return Ok(()),
            written => written.during(|| format!("letting volume {name} go"))?,
        };
        let written = tracked::<VolumeView>(written)?;
        if written.deleting {
            return Ok(());
        }
        let deleted = self
            .client
            .delete(PERSISTENT_VOLUMES, "", name, DeleteOptions::only(&volume.uid));
        match deleted.await {
            Err(error) if !error.is_not_found() => Err(error).during(|| format!("deleting volume {name}")),
            _ => Ok(()),
        }
    }
}

/// Where a node answers for a volume. Both names are of objects that exist, and hold nothing that a path must hide.
fn proxied(node: &str, volume: &str) -> String {
    format!("/api/v1/nodes/{node}/proxy/volumes/{volume}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_meta::{GroupVersionKind, Revision};

    fn object(kind: &str, value: &Value) -> Arc<Object> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
        Arc::new(Object::from_value(kind, Revision(1), value).unwrap())
    }

    #[test]
    fn a_volume_goes_when_it_is_released_or_deleted_unless_it_is_to_be_kept() {
        let case = |policy: &str, phase: &str, deleted: bool, held: bool| {
            let value = json!({"metadata": {"name": "v", "finalizers": if held { vec![FINALIZER] } else { vec![] },
                "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase}});
            is_to_be_removed(&Tracked::decode(&object("PersistentVolume", &value)).unwrap())
        };
        assert!(case("Delete", "Released", false, true));
        assert!(!case("Retain", "Released", false, true));
        assert!(!case("Delete", "Bound", false, true));
        assert!(!case("Delete", "Bound", true, true));
        assert!(case("Delete", "Available", true, true));
        assert!(!case("Retain", "Released", true, false));
    }

    #[test]
    fn what_a_disk_of_one_node_is_not_is_refused() {
        let case = |spec: Value| {
            let value = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec});
            let claim = Tracked::decode(&object("PersistentVolumeClaim", &value)).unwrap();
            refusal(&claim, &ClassView::default()).is_some()
        };
        assert!(!case(json!({"accessModes": ["ReadWriteOnce"]})));
        assert!(!case(
            json!({"accessModes": ["ReadWriteOncePod"], "volumeMode": "Filesystem"})
        ));
        assert!(case(json!({"accessModes": ["ReadWriteMany"]})));
        assert!(case(json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Block"})));
        assert!(case(json!({"accessModes": ["ReadWriteOnce"], "selector": {}})));
        assert!(case(
            json!({"accessModes": ["ReadWriteOnce"], "dataSource": {"kind": "X", "name": "y"}})
        ));
    }
}
