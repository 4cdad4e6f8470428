package main

import (
	"context"
	"fmt"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	configscheme "k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	plugins "k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/profile"
)

// Tries to see every node that the choice among candidates may fall on: upstream chooses by the
// order of a map among equals.
const choices = 24

// judge builds a scheduler over the objects and asks about every pending pod.
func judge(asked *question) answer {
	found := answer{Seed: asked.Seed}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	built, err := build(ctx, asked)
	if err != nil {
		found.Error = err.Error()
		return found
	}
	for _, name := range asked.Pending {
		found.Pods = append(found.Pods, built.place(ctx, name))
	}
	return found
}

type bench struct {
	scheduler *scheduler.Scheduler
	informers informers.SharedInformerFactory
	config    *config.KubeSchedulerConfiguration
}

func build(ctx context.Context, asked *question) (*bench, error) {
	var objects []runtime.Object
	for _, raw := range asked.Objects {
		object, _, err := clientscheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, raw)
		}
		objects = append(objects, object)
	}
	client := fake.NewSimpleClientset(objects...)
	factory := scheduler.NewInformerFactory(client, 0)
	var options []scheduler.Option
	configuration, err := readConfiguration(asked.Config)
	if err != nil {
		return nil, err
	}
	options = append(options, scheduler.WithProfiles(configuration.Profiles...))
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	built, err := scheduler.New(ctx, client, factory, nil, profile.NewRecorderFactory(broadcaster), options...)
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("%v was not listed", kind)
		}
	}
	if err := built.WaitForHandlersSync(ctx); err != nil {
		return nil, err
	}
	return &bench{built, factory, configuration}, nil
}

func readConfiguration(raw []byte) (*config.KubeSchedulerConfiguration, error) {
	if len(raw) == 0 {
		raw = []byte(`{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration"}`)
	}
	object, _, err := configscheme.Codecs.UniversalDecoder().Decode(raw, nil, nil)
	if err != nil {
		return nil, err
	}
	return object.(*config.KubeSchedulerConfiguration), nil
}

func (b *bench) place(ctx context.Context, name string) verdict {
	found := verdict{Name: name, Feasible: []string{}}
	namespace, short, _ := strings.Cut(name, "/")
	pod, err := b.informers.Core().V1().Pods().Lister().Pods(namespace).Get(short)
	if err == nil {
		err = b.decide(ctx, pod, &found)
	}
	if err != nil {
		found.Error = err.Error()
	}
	return found
}

// decide does what schedulePod does, of every node and without the shortcut to a nominated one.
func (b *bench) decide(ctx context.Context, pod *v1.Pod, found *verdict) error {
	handle, known := b.scheduler.Profiles[pod.Spec.SchedulerName]
	if !known {
		return fmt.Errorf("no profile %q", pod.Spec.SchedulerName)
	}
	snapshot := handle.SnapshotSharedLister().(*cache.Snapshot)
	if err := b.scheduler.Cache.UpdateSnapshot(klog.FromContext(ctx), snapshot); err != nil {
		return err
	}
	if snapshot.NumNodesInPlacement() == 0 {
		found.Message = scheduler.ErrNoNodesAvailable.Error()
		return nil
	}
	nodes, err := snapshot.List()
	if err != nil {
		return err
	}
	state := framework.NewCycleState()
	diagnosis := framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}
	feasible, err := filter(ctx, handle, state, pod, nodes, &diagnosis)
	if err != nil {
		return err
	}
	if len(feasible) == 0 {
		return b.refuse(ctx, handle, state, pod, nodes, &diagnosis, found)
	}
	for _, node := range feasible {
		found.Feasible = append(found.Feasible, node.Node().Name)
	}
	sort.Strings(found.Feasible)
	return score(ctx, handle, state, pod, feasible, found)
}

func filter(ctx context.Context, handle framework.Framework, state fwk.CycleState, pod *v1.Pod, nodes []fwk.NodeInfo, diagnosis *framework.Diagnosis) ([]fwk.NodeInfo, error) {
	result, status, by := handle.RunPreFilterPlugins(ctx, state, pod)
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, status.AsError()
		}
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		return nil, nil
	}
	if !result.AllNodes() {
		diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable,
			fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(by))))
	}
	var feasible []fwk.NodeInfo
	for _, node := range nodes {
		if !result.AllNodes() && !result.NodeNames.Has(node.Node().Name) {
			continue
		}
		status := handle.RunFilterPluginsWithNominatedPods(ctx, state, pod, node)
		switch {
		case status.Code() == fwk.Error:
			return nil, status.AsError()
		case status.IsSuccess():
			feasible = append(feasible, node)
		default:
			diagnosis.NodeToStatus.Set(node.Node().Name, status)
		}
	}
	return feasible, nil
}

func score(ctx context.Context, handle framework.Framework, state fwk.CycleState, pod *v1.Pod, feasible []fwk.NodeInfo, found *verdict) error {
	if status := handle.RunPreScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		return status.AsError()
	}
	scored, status := handle.RunScorePlugins(ctx, state, pod, feasible)
	if !status.IsSuccess() {
		return status.AsError()
	}
	found.Scores = map[string]map[string]int64{}
	for _, node := range scored {
		by := map[string]int64{}
		for _, plugin := range node.Scores {
			by[plugin.Name] = plugin.Score
		}
		found.Scores[node.Name] = by
	}
	return nil
}

// refuse words the refusal, and tells what preemption would do, without doing it.
func (b *bench) refuse(ctx context.Context, handle framework.Framework, state fwk.CycleState, pod *v1.Pod, nodes []fwk.NodeInfo, diagnosis *framework.Diagnosis, found *verdict) error {
	if err := b.preempt(ctx, handle, state, pod, nodes, diagnosis, found); err != nil {
		return err
	}
	refusal := framework.FitError{Pod: pod, NumAllNodes: len(nodes), Diagnosis: *diagnosis}
	found.Message = refusal.Error()
	return nil
}

func (b *bench) preempt(ctx context.Context, handle framework.Framework, state fwk.CycleState, pod *v1.Pod, nodes []fwk.NodeInfo, diagnosis *framework.Diagnosis, found *verdict) error {
	arguments := &config.DefaultPreemptionArgs{MinCandidateNodesPercentage: 10, MinCandidateNodesAbsolute: 100}
	features := plugins.NewSchedulerFeaturesFromGates(feature.DefaultFeatureGate)
	preemption, err := defaultpreemption.New(ctx, arguments, handle, features)
	if err != nil {
		return err
	}
	nominated := diagnosis.NodeToStatus.Get(pod.Status.NominatedNodeName)
	if eligible, why := preemption.PodEligibleToPreemptOthers(ctx, pod, nominated); !eligible {
		diagnosis.PostFilterMsg = "preemption: " + why
		return nil
	}
	potential, err := diagnosis.NodeToStatus.NodesForStatusCode(handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return err
	}
	statuses := framework.NewDefaultNodeToStatus()
	if len(potential) > 0 {
		budgets, err := b.informers.Policy().V1().PodDisruptionBudgets().Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		candidates, tried, err := preemption.Evaluator.DryRunPreemption(ctx, state, pod, potential, budgets, 0, int32(len(potential)))
		if err != nil {
			return err
		}
		if len(candidates) > 0 {
			found.Candidates = map[string]candidate{}
			for _, one := range candidates {
				var victims []string
				for _, victim := range one.Victims().Pods {
					victims = append(victims, victim.Namespace+"/"+victim.Name)
				}
				sort.Strings(victims)
				found.Candidates[one.Name()] = candidate{victims, one.Victims().NumPDBViolations}
			}
			chosen := sets.New[string]()
			for range choices {
				chosen.Insert(preemption.Evaluator.SelectCandidate(ctx, candidates).Name())
			}
			found.Chosen = sets.List(chosen)
			return nil
		}
		statuses = tried
	}
	statuses.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "Preemption is not helpful for scheduling"))
	why := framework.FitError{Pod: pod, NumAllNodes: len(nodes), Diagnosis: framework.Diagnosis{NodeToStatus: statuses}}
	diagnosis.PostFilterMsg = "preemption: " + why.Error()
	return nil
}
