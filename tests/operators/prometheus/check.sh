#!/usr/bin/env bash
# Prometheus Operator with its webhook: what it makes of a Prometheus, its rules and its monitors.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../lib.sh"
trap 'stop_started' EXIT
bin="$CACHE/bin"

for file in "$(module "$here" github.com/prometheus-operator/prometheus-operator)"/example/prometheus-operator-crd/monitoring*.yaml; do
  kubectl apply --server-side -f "$file"
done
kubectl wait --for=condition=Established crd --all --timeout=30s
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$OUT/tls.key" -out "$OUT/tls.crt" 2>/dev/null
port=$(free_port 8443)
metrics=$(free_port $((port + 1)))
start webhook "$bin/webhook" --web.listen-address="127.0.0.1:$port" --web.cert-file="$OUT/tls.crt" --web.key-file="$OUT/tls.key" --web.enable-tls=true
# It takes no kubeconfig.
config() { kubectl config view --raw --minify -o "jsonpath={$1}"; }
config '.clusters[0].cluster.certificate-authority-data' | base64 -d > "$OUT/ca.crt"
config '.users[0].user.client-certificate-data' | base64 -d > "$OUT/client.crt"
config '.users[0].user.client-key-data' | base64 -d > "$OUT/client.key"
start operator "$bin/operator" --apiserver="$(config '.clusters[0].cluster.server')" --ca-file="$OUT/ca.crt" \
  --cert-file="$OUT/client.crt" --key-file="$OUT/client.key" --web.listen-address="127.0.0.1:$metrics"
eventually 30 "the webhook serves" curl -sfk "https://localhost:$port/healthz"
sed "s/PORT/$port/; s/AUTHORITY/$(base64 -w0 < "$OUT/tls.crt")/" "$here/webhooks.yaml" | kubectl apply -f -

refused "parse error|invalid" kubectl apply -f "$here/wrong.yaml"
kubectl apply -f "$here/monitoring.yaml"
eventually 60 "the stateful set is made" kubectl get statefulset prometheus-main
eventually 30 "the service that governs it is made" kubectl get service prometheus-operated
configured() { kubectl get secret prometheus-main -o 'jsonpath={.data.prometheus\.yaml\.gz}' | base64 -d | gunzip | grep -q serviceMonitor/default/app/0; }
eventually 30 "the monitor is in the configuration" configured
ruled() { kubectl get configmap -l prometheus-name=main -o json | grep -q 'vector(1)'; }
eventually 30 "the rules are in a config map" ruled
eventually 30 "the state is reported" field prometheus main '.status.conditions[?(@.type=="Reconciled")].status' True
kubectl scale prometheus main --current-replicas=1 --replicas=2
eventually 30 "a second shard through the scale" kubectl get statefulset prometheus-main-shard-1
kubectl patch servicemonitor app --type=merge -p '{"spec":{"endpoints":[{"port":"other"}]}}'
changed() { kubectl get secret prometheus-main -o 'jsonpath={.data.prometheus\.yaml\.gz}' | base64 -d | gunzip | grep -q other; }
eventually 30 "a changed monitor is taken over" changed
kubectl get prometheus,servicemonitor,prometheusrule
kubectl delete prometheus main --timeout=30s
gone() { ! kubectl get statefulset prometheus-main; }
eventually 30 "the stateful set goes with its owner" gone
