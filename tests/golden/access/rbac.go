package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"sort"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"
	resolving "k8s.io/kubernetes/pkg/registry/rbac/validation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
)

type rbacGolden struct {
	Objects   []json.RawMessage `json:"objects"`
	Questions []question        `json:"questions"`
	Grants    []grant           `json:"grants"`
}

// What somebody wants to give away in a namespace, and what of it they do not have.
type grant struct {
	User      string              `json:"user"`
	Groups    []string            `json:"groups,omitempty"`
	Namespace string              `json:"namespace,omitempty"`
	Rules     []rbacv1.PolicyRule `json:"rules"`
	// The rules that the user has there.
	Held    []rbacv1.PolicyRule `json:"held"`
	Missing []rbacv1.PolicyRule `json:"missing"`
}

var (
	users        = names("user", 5)
	teams        = names("team", 3)
	roleNames    = names("role", 8)
	bindingNames = names("binding", 12)
	verbs        = []string{"get", "list", "create", "*", "use"}
	groups       = []string{"", "apps", "x.example", "*"}
	resources    = []string{"pods", "pods/log", "*/scale", "*", "deployments", "pods/*", "deployments/scale"}
	objects      = names("object", 3)
	paths        = []string{"/healthz", "/healthz/*", "*", "/apis", "/api*", "/apis/*", "/"}
)

type rbacMaker struct {
	*rand.Rand
	all []json.RawMessage
}

func (m *rbacMaker) record(object any) {
	text, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	m.all = append(m.all, text)
}

func some[T any](r *rand.Rand, from []T, most int) []T {
	var chosen []T
	for range 1 + r.Intn(most) {
		chosen = append(chosen, pick(r, from))
	}
	return chosen
}

func (m *rbacMaker) rule(cluster bool) rbacv1.PolicyRule {
	if cluster && chance(m.Rand, 20) {
		return rbacv1.PolicyRule{Verbs: some(m.Rand, verbs, 2), NonResourceURLs: some(m.Rand, paths, 2)}
	}
	rule := rbacv1.PolicyRule{Verbs: some(m.Rand, verbs, 3), APIGroups: some(m.Rand, groups, 2), Resources: some(m.Rand, resources, 3)}
	if chance(m.Rand, 25) {
		rule.ResourceNames = some(m.Rand, objects, 2)
	}
	return rule
}

func (m *rbacMaker) rules(cluster bool) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for range m.Intn(4) {
		rules = append(rules, m.rule(cluster))
	}
	return rules
}

func (m *rbacMaker) subjects() []rbacv1.Subject {
	var subjects []rbacv1.Subject
	for range 1 + m.Intn(2) {
		subjects = append(subjects, pick(m.Rand, []rbacv1.Subject{
			{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: pick(m.Rand, users)},
			{Kind: "Group", APIGroup: "rbac.authorization.k8s.io", Name: pick(m.Rand, append([]string{"system:serviceaccounts:ns0"}, teams...))},
			{Kind: "ServiceAccount", Name: pick(m.Rand, accounts), Namespace: pick(m.Rand, namespaces)},
		}))
	}
	return subjects
}

func rbacWorld(r *rand.Rand, count int) rbacGolden {
	var all rbacGolden
	m := &rbacMaker{Rand: r}
	var roles []*rbacv1.Role
	var clusterRoles []*rbacv1.ClusterRole
	var bindings []*rbacv1.RoleBinding
	var clusterBindings []*rbacv1.ClusterRoleBinding
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: kind}
	}
	for _, name := range roleNames {
		role := &rbacv1.ClusterRole{TypeMeta: meta("ClusterRole"), Rules: m.rules(true)}
		role.Name = name
		clusterRoles = append(clusterRoles, role)
		m.record(role)
		for _, namespace := range namespaces {
			role := &rbacv1.Role{TypeMeta: meta("Role"), Rules: m.rules(false)}
			role.Name, role.Namespace = name, namespace
			roles = append(roles, role)
			m.record(role)
		}
	}
	for i, name := range bindingNames {
		if i < 5 {
			b := &rbacv1.ClusterRoleBinding{TypeMeta: meta("ClusterRoleBinding"), Subjects: m.subjects()}
			b.Name = name
			b.RoleRef = rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: pick(r, append([]string{"gone"}, roleNames...))}
			clusterBindings = append(clusterBindings, b)
			m.record(b)
		}
		b := &rbacv1.RoleBinding{TypeMeta: meta("RoleBinding"), Subjects: m.subjects()}
		b.Name, b.Namespace = name, pick(r, namespaces)
		kind := pick(r, []string{"Role", "ClusterRole"})
		b.RoleRef = rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: kind, Name: pick(r, append([]string{"gone"}, roleNames...))}
		bindings = append(bindings, b)
		m.record(b)
	}
	// The order in which bindings are looked at decides which one a reason names.
	sort.Slice(bindings, func(i, j int) bool { return bindings[i].Name < bindings[j].Name })
	sort.Slice(clusterBindings, func(i, j int) bool { return clusterBindings[i].Name < clusterBindings[j].Name })
	all.Objects = m.all
	resolver, _ := resolving.NewTestRuleResolver(roles, bindings, clusterRoles, clusterBindings)
	static := &lookup{roles, bindings, clusterRoles, clusterBindings}
	judge := rbac.New(static, static, static, static)
	someone := func() (string, []string) {
		switch r.Intn(3) {
		case 0:
			namespace := pick(r, namespaces)
			name := fmt.Sprintf("system:serviceaccount:%s:%s", namespace, pick(r, accounts))
			return name, []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
		default:
			return pick(r, users), some(r, teams, 2)
		}
	}
	for range 1500 * count {
		name, in := someone()
		q := question{User: name, Groups: in, Verb: pick(r, []string{"get", "list", "create", "delete", "use"})}
		if chance(r, 15) {
			q.Path = pick(r, []string{"/healthz", "/healthz/etcd", "/apis", "/apis/apps", "/api", "/", "/metrics"})
		} else {
			q.Group = pick(r, []string{"", "apps", "x.example", "y"})
			q.Resource = pick(r, []string{"pods", "deployments", "things"})
			q.Subresource = pick(r, []string{"", "", "", "log", "scale"})
			q.Namespace = pick(r, append([]string{""}, namespaces...))
			q.Name = pick(r, append([]string{""}, objects...))
		}
		attributes := &authorizer.AttributesRecord{
			User: &user.DefaultInfo{Name: q.User, Groups: q.Groups}, Verb: q.Verb, APIGroup: q.Group, APIVersion: "v1",
			Resource: q.Resource, Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, Path: q.Path,
			ResourceRequest: q.Path == "",
		}
		decision, reason, _ := judge.Authorize(context.Background(), attributes)
		q.Allowed, q.Reason = decision == authorizer.DecisionAllow, reason
		all.Questions = append(all.Questions, q)
	}
	for range 120 * count {
		name, in := someone()
		g := grant{User: name, Groups: in, Namespace: pick(r, append([]string{""}, namespaces...))}
		for range 1 + r.Intn(2) {
			g.Rules = append(g.Rules, m.rule(g.Namespace == ""))
		}
		held, _ := resolver.RulesFor(context.Background(), &user.DefaultInfo{Name: name, Groups: in}, g.Namespace)
		g.Held = held
		if covered, missing := validation.Covers(held, g.Rules); !covered {
			g.Missing = missing
		}
		all.Grants = append(all.Grants, g)
	}
	return all
}

// The objects as the authorizer's listers give them.
type lookup struct {
	roles           []*rbacv1.Role
	bindings        []*rbacv1.RoleBinding
	clusterRoles    []*rbacv1.ClusterRole
	clusterBindings []*rbacv1.ClusterRoleBinding
}

func (l *lookup) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	for _, role := range l.roles {
		if role.Namespace == namespace && role.Name == name {
			return role, nil
		}
	}
	return nil, errors.NewNotFound(rbacv1.Resource("role"), name)
}

func (l *lookup) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	for _, role := range l.clusterRoles {
		if role.Name == name {
			return role, nil
		}
	}
	return nil, errors.NewNotFound(rbacv1.Resource("clusterrole"), name)
}

func (l *lookup) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	var found []*rbacv1.RoleBinding
	for _, binding := range l.bindings {
		if binding.Namespace == namespace {
			found = append(found, binding)
		}
	}
	return found, nil
}

func (l *lookup) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return l.clusterBindings, nil
}
