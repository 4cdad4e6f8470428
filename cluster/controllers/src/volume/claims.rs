//! What is to be done with a claim.

use super::{
    choose,
    types::{Claim, ClassView, SELECTED_NODE, Volume, is_bound_to},
};
use crate::tracked::Tracked;
use std::sync::Arc;

/// What matters to one claim.
#[derive(Default)]
pub(super) struct Known {
    /// The one it names.
    pub volume: Option<Arc<Volume>>,
    /// Those of its class, and those that are reserved for it.
    pub candidates: Vec<Arc<Volume>>,
    pub class: Option<Arc<Tracked<ClassView>>>,
    pub default_class: Option<String>,
    /// Pods without a node that name the claim.
    pub pods: Vec<String>,
}

/// An event's reason and message.
pub(super) type Said = (&'static str, String);

/// One step for a claim.
pub(super) enum Step {
    /// Both references, and both phases.
    Bind(Arc<Volume>),
    /// It waits, and says why: whether that is a warning, and what.
    Wait(Option<(bool, Said)>),
    /// The same, and something is wrong that should not be.
    Misbound(Said, String),
    /// It has lost its volume for good.
    Lost(Said),
    /// It asked for no class in particular and gets the default.
    Class(String),
    /// This provisioner is asked for a volume.
    Provision(String),
    /// The provisioner cannot be asked.
    CannotProvision(String),
}

pub(super) fn decide(claim: &Claim, known: &Known) -> Step {
    if claim.view.is_completed() {
        return bound(claim, known);
    }
    if claim.view.spec.volume_name.is_empty() {
        return unbound(claim, known);
    }
    let Some(volume) = &known.volume else {
        return Step::Wait(None);
    };
    let name = volume.name();
    if volume.view.spec.claim_ref.is_none() {
        return match choose::mismatch(claim, volume) {
            Some(why) => {
                let why = format!("Cannot bind to requested volume {name:?}: {why}");
                Step::Wait(Some((true, ("VolumeMismatch", why))))
            }
            None => Step::Bind(volume.clone()),
        };
    }
    if is_bound_to(volume, claim) {
        return Step::Bind(volume.clone());
    }
    let said = (
        "FailedBinding",
        format!("volume {name:?} already bound to a different claim."),
    );
    if claim.view.has(super::types::BOUND_BY_CONTROLLER) {
        let why = format!(
            "invalid binding of claim {} to volume {name:?}: volume already claimed",
            claim.key
        );
        return Step::Misbound(said, why);
    }
    Step::Wait(Some((true, said)))
}

fn unbound(claim: &Claim, known: &Known) -> Step {
    let class = known.class.as_ref().map(|class| &class.view);
    let delayed = class.is_some_and(ClassView::waits);
    if let Some(volume) = choose::best(claim, &known.candidates, delayed) {
        return Step::Bind(volume);
    }
    if let Some(default) = known.default_class.as_ref().filter(|_| !claim.view.has_class()) {
        return Step::Class(default.clone());
    }
    if delayed && !claim.view.has(SELECTED_NODE) {
        let (reason, message) = match known.pods.as_slice() {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            [one] => ("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
            many => (
                "WaitForPodScheduled",
                format!("waiting for pods {} to be scheduled", many.join(",")),
            ),
        };
        return Step::Wait(Some((false, (reason, message))));
    }
    match (claim.view.class(), class) {
        ("", _) => {
            let why = "no persistent volumes available for this claim and no storage class is set";
            Step::Wait(Some((false, ("FailedBinding", why.to_owned()))))
        }
        (name, None) => Step::CannotProvision(format!("storageclass.storage.k8s.io {name:?} not found")),
        (_, Some(class)) if class.provisioner.starts_with("kubernetes.io/") => {
            Step::CannotProvision(format!("no volume plugin matched name: {}", class.provisioner))
        }
        (_, Some(class)) => Step::Provision(class.provisioner.clone()),
    }
}

fn bound(claim: &Claim, known: &Known) -> Step {
    let lost = |reason, message: &str| Step::Lost((reason, message.to_owned()));
    if claim.view.spec.volume_name.is_empty() {
        return lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(volume) = &known.volume else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    match &volume.view.spec.claim_ref {
        Some(reference) if reference.uid != claim.uid => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        _ => Step::Bind(volume.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use strata_meta::{GroupVersionKind, Object, Revision};

    fn object(kind: &str, value: &Value) -> Arc<Object> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
        Arc::new(Object::from_value(kind, Revision(1), value).unwrap())
    }

    fn claim(class: Option<&str>, annotations: Value, spec: Value) -> Claim {
        let mut value = json!({"metadata": {"name": "c", "namespace": "n", "uid": "1", "annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}},
                "storageClassName": class}});
        merge(&mut value["spec"], spec);
        Tracked::decode(&object("PersistentVolumeClaim", &value)).unwrap()
    }

    fn volume(name: &str, size: &str, spec: Value) -> Arc<Volume> {
        let mut value = json!({"metadata": {"name": name, "labels": {"size": size}},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": "gold"},
            "status": {"phase": "Available"}});
        merge(&mut value["spec"], spec);
        Arc::new(Tracked::decode(&object("PersistentVolume", &value)).unwrap())
    }

    fn merge(into: &mut Value, more: Value) {
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            into[key] = value;
        }
    }

    fn class(provisioner: &str, mode: &str) -> Option<Arc<Tracked<ClassView>>> {
        let value = json!({"metadata": {"name": "gold"}, "provisioner": provisioner, "volumeBindingMode": mode});
        Some(Arc::new(Tracked::decode(&object("StorageClass", &value)).unwrap()))
    }

    fn outcome(step: &Step) -> String {
        match step {
            Step::Bind(volume) => format!("bind {}", volume.name()),
            Step::Wait(None) => "wait".into(),
            Step::Wait(Some((_, (reason, _)))) => format!("wait {reason}"),
            Step::Misbound(..) => "misbound".into(),
            Step::Lost((reason, _)) => format!("lost {reason}"),
            Step::Class(name) => format!("class {name}"),
            Step::Provision(name) => format!("provision {name}"),
            Step::CannotProvision(why) => why.clone(),
        }
    }

    fn chosen(claim: &Claim, candidates: Vec<Arc<Volume>>) -> String {
        let known = Known {
            candidates,
            class: class("example.com/p", "Immediate"),
            ..Known::default()
        };
        outcome(&decide(claim, &known))
    }

    fn reserved(name: &str, uid: &str) -> Value {
        json!({"claimRef": {"namespace": "n", "name": name, "uid": uid}})
    }

    #[test]
    fn the_smallest_volume_that_suits_is_chosen_unless_one_is_reserved() {
        let plain = claim(Some("gold"), json!({}), json!({}));
        let none = "provision example.com/p";
        let (ten, twenty) = (volume("ten", "10Gi", json!({})), volume("twenty", "20Gi", json!({})));
        assert_eq!(chosen(&plain, vec![twenty.clone(), ten.clone()]), "bind ten");
        assert_eq!(chosen(&plain, vec![volume("small", "1Gi", json!({}))]), none);
        let other = volume("other", "10Gi", json!({"storageClassName": "silver"}));
        assert_eq!(chosen(&plain, vec![other]), none);
        let raw = volume("raw", "10Gi", json!({"volumeMode": "Block"}));
        assert_eq!(chosen(&plain, vec![raw.clone()]), none);
        assert_eq!(
            chosen(
                &claim(Some("gold"), json!({}), json!({"volumeMode": "Block"})),
                vec![raw]
            ),
            "bind raw"
        );
        let mine = volume("mine", "30Gi", reserved("c", ""));
        assert_eq!(chosen(&plain, vec![ten.clone(), mine]), "bind mine");
        let before = volume("before", "6Gi", reserved("c", "of another life"));
        assert_eq!(chosen(&plain, vec![before]), none);
        let unlike = volume(
            "unlike",
            "30Gi",
            json!({"storageClassName": "", "claimRef": {"namespace": "n", "name": "c"}}),
        );
        assert_eq!(chosen(&plain, vec![unlike]), "bind unlike");
    }

    #[test]
    fn modes_and_labels_must_be_had_and_the_fewest_modes_are_best() {
        let many = |name, size| volume(name, size, json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}));
        let plain = claim(Some("gold"), json!({}), json!({}));
        assert_eq!(
            chosen(&plain, vec![many("many", "5Gi"), volume("one", "9Gi", json!({}))]),
            "bind one"
        );
        let shared = claim(Some("gold"), json!({}), json!({"accessModes": ["ReadWriteMany"]}));
        assert_eq!(
            chosen(&shared, vec![volume("one", "9Gi", json!({})), many("many", "9Gi")]),
            "bind many"
        );
        let picky = claim(
            Some("gold"),
            json!({}),
            json!({"selector": {"matchLabels": {"size": "20Gi"}}}),
        );
        let both = vec![volume("ten", "10Gi", json!({})), volume("twenty", "20Gi", json!({}))];
        assert_eq!(chosen(&picky, both), "bind twenty");
    }

    #[test]
    fn a_claim_of_a_class_that_waits_is_bound_by_nobody_but_the_scheduler() {
        let known = |pods: &[&str], candidates| Known {
            candidates,
            class: class("example.com/p", "WaitForFirstConsumer"),
            pods: pods.iter().map(|&p| p.to_owned()).collect(),
            ..Known::default()
        };
        let plain = claim(Some("gold"), json!({}), json!({}));
        let ten = volume("ten", "10Gi", json!({}));
        let case = |claim: &Claim, known: &Known| outcome(&decide(claim, known));
        assert_eq!(case(&plain, &known(&[], vec![ten])), "wait WaitForFirstConsumer");
        assert_eq!(case(&plain, &known(&["p"], vec![])), "wait WaitForPodScheduled");
        let told = claim(Some("gold"), json!({SELECTED_NODE: "n1"}), json!({}));
        assert_eq!(case(&told, &known(&["p"], vec![])), "provision example.com/p");
        let mine = volume("mine", "30Gi", reserved("c", "1"));
        assert_eq!(case(&plain, &known(&["p"], vec![mine])), "bind mine");
    }

    #[test]
    fn a_claim_without_a_class_gets_the_default_unless_it_wants_none() {
        let default = Known {
            default_class: Some("gold".into()),
            ..Known::default()
        };
        let case = |class: Option<&str>, known: &Known| outcome(&decide(&claim(class, json!({}), json!({})), known));
        assert_eq!(case(None, &default), "class gold");
        assert_eq!(case(Some(""), &default), "wait FailedBinding");
        assert_eq!(case(None, &Known::default()), "wait FailedBinding");
        assert_eq!(
            case(Some("lost"), &default),
            "storageclass.storage.k8s.io \"lost\" not found"
        );
        let nobody = Known {
            class: class("kubernetes.io/no-provisioner", "Immediate"),
            ..Known::default()
        };
        assert_eq!(
            case(Some("gold"), &nobody),
            "no volume plugin matched name: kubernetes.io/no-provisioner"
        );
    }

    #[test]
    fn a_claim_that_names_its_volume_gets_that_or_nothing() {
        let case = |claim: &Claim, volume: Option<Arc<Volume>>| {
            let known = Known {
                volume,
                ..Known::default()
            };
            outcome(&decide(claim, &known))
        };
        let named = claim(Some("gold"), json!({}), json!({"volumeName": "v"}));
        let free = |size, spec| Some(volume("v", size, spec));
        assert_eq!(case(&named, None), "wait");
        assert_eq!(case(&named, free("10Gi", json!({}))), "bind v");
        assert_eq!(case(&named, free("1Gi", json!({}))), "wait VolumeMismatch");
        assert_eq!(case(&named, free("1Gi", reserved("c", "1"))), "bind v");
        assert_eq!(case(&named, free("10Gi", reserved("d", "2"))), "wait FailedBinding");
        let ours = claim(
            Some("gold"),
            json!({super::super::types::BOUND_BY_CONTROLLER: "yes"}),
            json!({"volumeName": "v"}),
        );
        assert_eq!(case(&ours, free("10Gi", reserved("d", "2"))), "misbound");
        let done = |name: &str| {
            claim(
                Some("gold"),
                json!({super::super::types::BIND_COMPLETED: "yes"}),
                json!({"volumeName": name}),
            )
        };
        assert_eq!(case(&done(""), None), "lost ClaimLost");
        assert_eq!(case(&done("v"), None), "lost ClaimLost");
        assert_eq!(case(&done("v"), free("10Gi", reserved("d", "2"))), "lost ClaimMisbound");
        assert_eq!(case(&done("v"), free("10Gi", reserved("c", "1"))), "bind v");
        assert_eq!(case(&done("v"), free("10Gi", json!({}))), "bind v");
    }
}
