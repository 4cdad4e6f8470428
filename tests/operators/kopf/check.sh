#!/usr/bin/env bash
# A kopf operator: creation, update, finalizer and timer handlers, events, and a second run that resumes.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../lib.sh"
trap 'stop_started' EXIT
operator() { start "operator$1" "$CACHE/venv/bin/kopf" run --standalone --namespace=default "$here/operator.py"; }
greet() { printf '{"apiVersion": "strata.example.com/v1", "kind": "Greeting", "metadata": {"name": "%s"}, "spec": {"name": "%s"}}' "$1" "$2" | kubectl apply -f -; }

kubectl apply -f "$here/crd.yaml"
kubectl wait --for=condition=Established crd greetings.strata.example.com --timeout=10s
operator 1
greet one world
eventually 60 "the config map is made" field configmap one .data.text '^hello, world$'
eventually 20 "the status says so" field greeting one .status.text '^hello, world$'
eventually 20 "the result is stored" field greeting one .status.created.made true
eventually 20 "the timer runs" field greeting one .status.timer running
posted() { kubectl get events -o 'jsonpath={.items[*].reason}' | grep -q Greeted; }
eventually 20 "the event is posted" posted
greet one "you"
eventually 20 "the config map follows" field configmap one .data.text '^hello, you$'
refused "spec.name" kubectl patch greeting one --type=merge -p '{"spec":{"name":7}}'

# What happens while it is away is seen when it is back.
stop_started
started=()
greet two later
operator 2
eventually 60 "a second run sees what it missed" field configmap two .data.text '^hello, later$'
kubectl delete greeting one --timeout=20s
eventually 20 "the finalizer's handler has run" kubectl get configmap one-gone
gone() { ! kubectl get configmap one; }
eventually 20 "the config map goes with its owner" gone
kubectl create configmap w && kubectl label configmap w watched=yes && kubectl delete configmap w
eventually 20 "watched by label" kubectl get configmap w-seen
