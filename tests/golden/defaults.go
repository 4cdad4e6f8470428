package main

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
)

// An object before and after defaulting.
type defaultsCase struct {
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
	Result json.RawMessage `json:"result"`
}

func defaultsAnswers(list []defaultsCase) []defaultsCase {
	for i := range list {
		one := &list[i]
		kind := parse(one.Kind)
		created, err := legacyscheme.Scheme.New(kind)
		if err != nil {
			fail(err)
		}
		if err := json.Unmarshal(one.Object, created); err != nil {
			fail(err)
		}
		created.GetObjectKind().SetGroupVersionKind(kind)
		legacyscheme.Scheme.Default(created)
		one.Result = encode(created)
	}
	return list
}

func encode(object runtime.Object) json.RawMessage {
	text, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	return text
}
