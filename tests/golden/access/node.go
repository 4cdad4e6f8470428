package main

import (
	"context"
	"encoding/json"
	"math/rand"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/auth/nodeidentifier"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/node"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

type nodeGolden struct {
	// In order; "deleted" for one that goes.
	Events    []nodeEvent `json:"events"`
	Questions []question  `json:"questions"`
}

type nodeEvent struct {
	Deleted bool            `json:"deleted,omitempty"`
	Object  json.RawMessage `json:"object"`
}

var (
	nodes      = names("node", 4)
	namespaces = names("ns", 2)
	pods       = names("pod", 10)
	secrets    = names("secret", 8)
	configs    = names("config", 6)
	claims     = names("claim", 6)
	volumes    = names("volume", 6)
	accounts   = names("account", 4)
	devices    = names("devices", 5)
	others     = names("other", 5)
)

type nodeMaker struct {
	*rand.Rand
	graph  *node.Graph
	events []nodeEvent
}

func nodeWorld(r *rand.Rand, count int) nodeGolden {
	m := &nodeMaker{Rand: r, graph: node.NewGraph()}
	for range 60 * count {
		m.pod()
		if chance(r, 30) {
			m.volume()
		}
		if chance(r, 20) {
			m.attachment()
		}
		if chance(r, 20) {
			m.slice()
		}
	}
	judge := node.NewAuthorizer(m.graph, nodeidentifier.NewDefaultNodeIdentifier(), bootstrappolicy.NodeRules())
	var asked []question
	for range 2000 * count {
		q := m.question()
		attributes := &authorizer.AttributesRecord{
			User: &user.DefaultInfo{Name: q.User, Groups: q.Groups}, Verb: q.Verb, APIGroup: q.Group, APIVersion: "v1",
			Resource: q.Resource, Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, Path: q.Path,
			ResourceRequest: q.Path == "",
		}
		if q.Fields != "" {
			selector, err := fields.ParseSelector(q.Fields)
			if err != nil {
				fail(err)
			}
			attributes.FieldSelectorRequirements = selector.Requirements()
		}
		decision, reason, err := judge.Authorize(context.Background(), attributes)
		if err != nil {
			fail(err)
		}
		q.Allowed, q.Reason = decision == authorizer.DecisionAllow, reason
		asked = append(asked, q)
	}
	return nodeGolden{Events: m.events, Questions: asked}
}

func (m *nodeMaker) record(deleted bool, object any) {
	text, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	m.events = append(m.events, nodeEvent{Deleted: deleted, Object: text})
}

func (m *nodeMaker) local(from []string) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: pick(m.Rand, from)}
}

func (m *nodeMaker) pod() {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	p.Name, p.Namespace = pick(m.Rand, pods), pick(m.Rand, namespaces)
	if chance(m.Rand, 15) {
		m.graph.DeletePod(p.Name, p.Namespace)
		m.record(true, p)
		return
	}
	if chance(m.Rand, 10) {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	}
	p.Spec.NodeName = pick(m.Rand, nodes)
	p.Spec.ServiceAccountName = pick(m.Rand, accounts)
	if chance(m.Rand, 20) {
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{m.local(secrets)}
	}
	container := corev1.Container{Name: "c"}
	if chance(m.Rand, 30) {
		reference := corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: m.local(secrets)}}
		if chance(m.Rand, 50) {
			reference = corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: m.local(configs)}}
		}
		container.EnvFrom = append(container.EnvFrom, reference)
	}
	if chance(m.Rand, 30) {
		from := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: m.local(secrets), Key: "k"}}
		if chance(m.Rand, 50) {
			from = &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: m.local(configs), Key: "k"}}
		}
		container.Env = append(container.Env, corev1.EnvVar{Name: "E", ValueFrom: from})
	}
	switch m.Intn(3) {
	case 0:
		p.Spec.Containers = []corev1.Container{container}
	case 1:
		p.Spec.InitContainers = []corev1.Container{container}
	default:
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Env: container.Env, EnvFrom: container.EnvFrom}},
		}
	}
	for range m.Intn(4) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: pick(m.Rand, claims), VolumeSource: m.source()})
	}
	if chance(m.Rand, 30) {
		m.claims(p)
	}
	m.graph.AddPod(p)
	m.record(false, p)
}

func (m *nodeMaker) claims(p *corev1.Pod) {
	name := pick(m.Rand, devices)
	for i, entry := range []string{"direct", "template", "none"}[:1+m.Intn(3)] {
		claim := corev1.PodResourceClaim{Name: entry}
		if i == 0 {
			claim.ResourceClaimName = &name
		} else {
			claim.ResourceClaimTemplateName = &name
		}
		p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, claim)
	}
	for _, entry := range []string{"direct", "template", "none", "foreign"} {
		if chance(m.Rand, 60) {
			status := corev1.PodResourceClaimStatus{Name: entry}
			if entry != "none" {
				made := pick(m.Rand, devices)
				status.ResourceClaimName = &made
			}
			p.Status.ResourceClaimStatuses = append(p.Status.ResourceClaimStatuses, status)
		}
	}
	if chance(m.Rand, 20) {
		p.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: pick(m.Rand, devices)}
	}
}

func (m *nodeMaker) source() corev1.VolumeSource {
	secret := pick(m.Rand, secrets)
	reference := m.local(secrets)
	switch m.Intn(15) {
	case 0, 1:
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}
	case 2, 3:
		return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: m.local(configs)}}
	case 4, 5:
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: pick(m.Rand, claims)}}
	case 6:
		return corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}
	case 7:
		return corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: secret, ShareName: "s"}}
	case 8:
		return corev1.VolumeSource{CephFS: &corev1.CephFSVolumeSource{SecretRef: &reference}}
	case 9:
		return corev1.VolumeSource{FlexVolume: &corev1.FlexVolumeSource{Driver: "d", SecretRef: &reference}}
	case 10:
		return corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{SecretRef: &reference}}
	case 11:
		return corev1.VolumeSource{ScaleIO: &corev1.ScaleIOVolumeSource{SecretRef: &reference}}
	case 12:
		return corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{SecretRef: &reference}}
	case 13:
		return corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d", NodePublishSecretRef: &reference}}
	default:
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: reference}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: m.local(configs)}},
		}}}
	}
}

func (m *nodeMaker) volume() {
	v := &corev1.PersistentVolume{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}}
	v.Name = pick(m.Rand, volumes)
	if chance(m.Rand, 15) {
		m.graph.DeletePV(v.Name)
		m.record(true, v)
		return
	}
	if chance(m.Rand, 80) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: pick(m.Rand, namespaces), Name: pick(m.Rand, claims)}
	}
	reference := func() *corev1.SecretReference {
		r := &corev1.SecretReference{Name: pick(m.Rand, secrets)}
		if chance(m.Rand, 50) {
			r.Namespace = pick(m.Rand, namespaces)
		}
		return r
	}
	s := &v.Spec.PersistentVolumeSource
	switch m.Intn(9) {
	case 0:
		s.AzureFile = &corev1.AzureFilePersistentVolumeSource{SecretName: pick(m.Rand, secrets), ShareName: "s"}
		if chance(m.Rand, 50) {
			namespace := pick(m.Rand, namespaces)
			s.AzureFile.SecretNamespace = &namespace
		}
	case 1:
		s.CephFS = &corev1.CephFSPersistentVolumeSource{SecretRef: reference()}
	case 2:
		s.Cinder = &corev1.CinderPersistentVolumeSource{SecretRef: reference()}
	case 3:
		s.FlexVolume = &corev1.FlexPersistentVolumeSource{Driver: "d", SecretRef: reference()}
	case 4:
		s.RBD = &corev1.RBDPersistentVolumeSource{SecretRef: reference()}
	case 5:
		s.ScaleIO = &corev1.ScaleIOPersistentVolumeSource{SecretRef: reference()}
	case 6:
		s.ISCSI = &corev1.ISCSIPersistentVolumeSource{SecretRef: reference()}
	case 7:
		s.StorageOS = &corev1.StorageOSPersistentVolumeSource{
			SecretRef: &corev1.ObjectReference{Namespace: pick(m.Rand, namespaces), Name: pick(m.Rand, secrets)},
		}
	default:
		s.CSI = &corev1.CSIPersistentVolumeSource{
			Driver: "d", VolumeHandle: "h", ControllerPublishSecretRef: reference(), NodeStageSecretRef: reference(),
			NodePublishSecretRef: reference(), ControllerExpandSecretRef: reference(), NodeExpandSecretRef: reference(),
		}
	}
	m.graph.AddPV(v)
	m.record(false, v)
}

func (m *nodeMaker) attachment() {
	a := &storagev1.VolumeAttachment{TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "VolumeAttachment"}}
	a.Name = pick(m.Rand, others)
	if chance(m.Rand, 15) {
		m.graph.DeleteVolumeAttachment(a.Name)
		m.record(true, a)
		return
	}
	a.Spec.NodeName = pick(m.Rand, nodes)
	m.graph.AddVolumeAttachment(a.Name, a.Spec.NodeName)
	m.record(false, a)
}

func (m *nodeMaker) slice() {
	s := &resourceapi.ResourceSlice{TypeMeta: metav1.TypeMeta{APIVersion: "resource.k8s.io/v1", Kind: "ResourceSlice"}}
	s.Name = pick(m.Rand, others)
	if chance(m.Rand, 15) {
		m.graph.DeleteResourceSlice(s.Name)
		m.record(true, s)
		return
	}
	name := ""
	if chance(m.Rand, 80) {
		name = pick(m.Rand, nodes)
		s.Spec.NodeName = &name
	}
	m.graph.AddResourceSlice(s.Name, name)
	m.record(false, s)
}

func (m *nodeMaker) question() question {
	self := pick(m.Rand, nodes)
	q := question{User: "system:node:" + self, Groups: []string{"system:nodes", "system:authenticated"}}
	switch m.Intn(40) {
	case 0:
		q.User = "system:node:"
	case 1:
		q.Groups = []string{"system:authenticated"}
	case 2:
		q.User = "alice"
	case 3:
		q.User = "system:node:unknown"
	}
	if chance(m.Rand, 3) {
		q.Verb, q.Path = "get", pick(m.Rand, []string{"/healthz", "/version", "/metrics", "/api"})
		return q
	}
	q.Verb = pick(m.Rand, []string{"get", "get", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bogus"})
	resources := []struct {
		group, resource string
		names           []string
		namespaced      bool
		subresources    []string
	}{
		{"", "secrets", secrets, true, []string{"bogus"}}, {"", "secrets", secrets, true, nil},
		{"", "configmaps", configs, true, []string{"bogus"}}, {"", "pods", pods, true, []string{"status", "eviction", "exec", "log"}},
		{"", "persistentvolumeclaims", claims, true, []string{"status"}},
		{"", "persistentvolumeclaims", append([]string{"pod0-claim0", "pod1-claim1", "pod2-claim2"}, claims...), true, nil},
		{"", "persistentvolumes", volumes, false, []string{"status"}},
		{"resource.k8s.io", "resourceclaims", devices, true, []string{"status"}},
		{"resource.k8s.io", "resourceclaims", devices, true, nil}, {"resource.k8s.io", "resourceclaims", devices, true, nil},
		{"storage.k8s.io", "volumeattachments", others, false, []string{"status"}},
		{"", "serviceaccounts", accounts, true, []string{"token", "token", "bogus"}},
		{"coordination.k8s.io", "leases", nodes, true, nil}, {"storage.k8s.io", "csinodes", nodes, false, []string{"bogus"}},
		{"resource.k8s.io", "resourceslices", others, false, []string{"bogus"}}, {"", "nodes", nodes, false, []string{"status", "proxy"}},
		{"certificates.k8s.io", "podcertificaterequests", others, true, nil},
		{"certificates.k8s.io", "certificatesigningrequests", others, false, []string{"nodeclient", "approval"}},
		{"", "services", others, true, nil}, {"", "events", others, true, nil}, {"node.k8s.io", "runtimeclasses", others, false, nil},
		{"storage.k8s.io", "csidrivers", others, false, nil}, {"authentication.k8s.io", "tokenreviews", nil, false, nil},
		{"authorization.k8s.io", "subjectaccessreviews", nil, false, nil}, {"apps", "deployments", others, true, nil},
		{"", "bogus", others, true, nil},
	}
	on := pick(m.Rand, resources)
	q.Group, q.Resource = on.group, on.resource
	if on.namespaced {
		q.Namespace = pick(m.Rand, append([]string{"", "kube-node-lease", "kube-system"}, append(namespaces, namespaces...)...))
	}
	if q.Resource == "leases" && chance(m.Rand, 70) {
		q.Namespace = "kube-node-lease"
	}
	if len(on.names) > 0 && chance(m.Rand, 85) {
		q.Name = pick(m.Rand, on.names)
	}
	if on.resource == "nodes" && chance(m.Rand, 50) {
		q.Name = self
	}
	if len(on.subresources) > 0 && chance(m.Rand, 30) {
		q.Subresource = pick(m.Rand, on.subresources)
	}
	if chance(m.Rand, 25) {
		q.Fields = pick(m.Rand, []string{
			"spec.nodeName=" + self, "spec.nodeName==" + self, "spec.nodeName!=" + self, "spec.nodeName=" + pick(m.Rand, nodes),
			"metadata.name=x", "metadata.name=x,spec.nodeName=" + self, "nodeName=" + self,
		})
	}
	return q
}
