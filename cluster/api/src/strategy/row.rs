//! A strategy that is data: what most kinds need.

use super::{Causes, Collection, Column, Strategy, columns, spec_changed};
use crate::{
    cache::FieldPath,
    json,
    validate::{MetadataTurn, NameRule},
};
use serde_json::Value;

/// The answers of one kind; [`ROW`] has those that fit most.
pub(super) struct Row {
    /// Fields that a field selector may name.
    pub(super) fields: &'static [FieldPath],
    /// Whether an update may leave out the resourceVersion.
    pub(super) unconditional: bool,
    /// Whether an update may create.
    pub(super) create_on_update: bool,
    /// Whether changes of the spec are counted.
    pub(super) counts: bool,
    /// Whether changes of labels are counted with them.
    pub(super) counts_labels: bool,
    /// Whether changes of annotations are counted too.
    pub(super) counts_annotations: bool,
    /// What names look like.
    pub(super) rule: NameRule,
    /// What becomes of dependents.
    pub(super) collection: Collection,
    /// When the metadata of a new object is judged.
    pub(super) metadata: MetadataTurn,
    /// The columns of a table.
    pub(super) columns: &'static [Column],
    /// Whether a deletion answers with the object.
    pub(super) returns_deleted: bool,
    /// Whether a write of the status may not change labels.
    pub(super) keeps_labels: bool,
    /// Sets what the server decides about a new object.
    pub(super) prepare_create: fn(&mut Value),
    /// Undoes changes that may not be made.
    pub(super) prepare_update: fn(&mut Value, &Value),
    /// Undoes or completes a change of the status.
    pub(super) prepare_status: fn(&mut Value, &Value),
    /// Problems of an object.
    pub(super) validate: fn(&Value, &mut Causes),
    /// Problems of a new object only.
    pub(super) validate_create: fn(&Value, &mut Causes),
    /// Problems of a change.
    pub(super) validate_update: fn(&Value, &Value, &mut Causes),
    /// Problems of a change of the status.
    pub(super) validate_status: fn(&Value, &Value, &mut Causes),
    /// Sentences for the author.
    pub(super) warnings: fn(&Value, Option<&Value>) -> Vec<String>,
}

/// A kind without rules of its own.
pub(super) const ROW: Row = Row {
    fields: &[],
    unconditional: true,
    create_on_update: false,
    counts: false,
    counts_labels: false,
    counts_annotations: false,
    rule: NameRule::Subdomain,
    metadata: MetadataTurn::First,
    columns: &[columns::NAME, columns::CREATED_AT],
    returns_deleted: false,
    collection: Collection::Collected,
    keeps_labels: false,
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    prepare_status: |_, _| {},
    validate: |_, _| {},
    validate_create: |_, _| {},
    validate_update: |_, _, _| {},
    validate_status: |_, _, _| {},
    warnings: |_, _| Vec::new(),
};

/// A field whose absence reads as the empty text.
pub(super) const fn field(path: &'static str) -> FieldPath {
    FieldPath::new(path, "")
}

impl Strategy for Row {
    fn name_rule(&self) -> NameRule {
        self.rule
    }
    fn metadata_turn(&self) -> MetadataTurn {
        self.metadata
    }
    fn counts_generation(&self) -> bool {
        self.counts
    }
    fn counts_labels(&self) -> bool {
        self.counts_labels
    }
    fn changed(&self, new: &Value, old: &Value) -> bool {
        let labels = self.counts_labels && !json::same(new, old, "metadata.labels");
        labels || spec_changed(new, old) || (self.counts_annotations && !json::same(new, old, "metadata.annotations"))
    }
    fn creates_on_update(&self) -> bool {
        self.create_on_update
    }
    fn allows_unconditional_update(&self) -> bool {
        self.unconditional
    }
    fn collection(&self) -> Collection {
        self.collection
    }
    fn returns_deleted(&self) -> bool {
        self.returns_deleted
    }
    fn prepare_create(&self, object: &mut Value) {
        (self.prepare_create)(object);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        (self.prepare_update)(new, old);
    }
    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        if self.keeps_labels {
            json::copy(old, new, "metadata.labels");
        }
        (self.prepare_status)(new, old);
    }
    fn validate(&self, object: &Value, causes: &mut Causes) {
        (self.validate)(object, causes);
    }
    fn validate_create(&self, object: &Value, causes: &mut Causes) {
        (self.validate_create)(object, causes);
    }
    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        (self.validate_update)(new, old, causes);
    }
    fn validate_status_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        (self.validate_status)(new, old, causes);
    }
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        (self.warnings)(new, old)
    }
    fn selectable_fields(&self) -> &'static [FieldPath] {
        self.fields
    }
    fn columns(&self) -> &'static [Column] {
        self.columns
    }
}
