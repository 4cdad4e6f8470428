#!/usr/bin/env bash
# cert-manager with its webhook and its injector: certificates from a self-signed issuer, from an authority and by request.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../lib.sh"
trap 'stop_started' EXIT
bin="$CACHE/bin"

# The chart's labels are left out.
for file in "$(module "$here" github.com/cert-manager/cert-manager)"/deploy/crds/*.yaml; do
  sed '/{{/d' "$file" | kubectl apply --server-side -f -
done
kubectl wait --for=condition=Established crd --all --timeout=20s
kubectl create namespace cert-manager

port=$(free_port 10250)
health=$(free_port $((port + 1)))
sed "s/PORT/$port/" "$here/webhooks.yaml" | kubectl apply -f -
start webhook "$bin/webhook" --kubeconfig="$KUBECONFIG" --secure-port="$port" --healthz-port="$health" \
  --dynamic-serving-ca-secret-namespace=cert-manager --dynamic-serving-ca-secret-name=cert-manager-webhook-ca --dynamic-serving-dns-names=localhost
start cainjector "$bin/cainjector" --kubeconfig="$KUBECONFIG" --leader-election-namespace=cert-manager
start controller "$bin/controller" --kubeconfig="$KUBECONFIG" --leader-election-namespace=cert-manager \
  --feature-gates=ExperimentalCertificateSigningRequestControllers=true --cluster-resource-namespace=cert-manager --metrics-listen-address=127.0.0.1:0
eventually 60 "the webhook serves" curl -sf "http://127.0.0.1:$health/healthz"
eventually 60 "the injector has written the authority" field validatingwebhookconfiguration cert-manager-webhook .webhooks[0].clientConfig.caBundle .
eventually 60 "for both" field mutatingwebhookconfiguration cert-manager-webhook .webhooks[0].clientConfig.caBundle .

refused "renewBefore" kubectl apply -f "$here/wrong.yaml"
kubectl apply -f "$here/issue.yaml"
kubectl wait --for=condition=Ready clusterissuer/self issuer/authority --timeout=60s
kubectl wait --for=condition=Ready certificate authority leaf --timeout=60s
for name in authority leaf; do
  kubectl get secret "$name" -o 'jsonpath={.data.tls\.crt}' | base64 -d > "$OUT/$name.crt"
done
openssl verify -CAfile "$OUT/authority.crt" "$OUT/leaf.crt"
openssl x509 -in "$OUT/leaf.crt" -noout -ext subjectAltName | grep DNS:leaf.example.com > /dev/null

# A secret that goes away is issued anew.
before=$(kubectl get secret leaf -o 'jsonpath={.metadata.uid}')
kubectl delete secret leaf
reissued() { field secret leaf .metadata.uid . && ! field secret leaf .metadata.uid "$before" && field secret leaf '.data.tls\.crt' .; }
eventually 60 "the secret is back" reissued

# The API's own certificate requests, signed by the issuer.
openssl req -new -newkey rsa:2048 -nodes -keyout "$OUT/key.pem" -subj /CN=asked.example.com -out "$OUT/request.pem" 2>/dev/null
sed "s/REQUEST/$(base64 -w0 < "$OUT/request.pem")/" "$here/request.yaml" | kubectl create -f -
kubectl certificate approve asked
eventually 60 "the request is signed" field csr asked .status.certificate .
kubectl get csr asked -o 'jsonpath={.status.certificate}' | base64 -d > "$OUT/asked.crt"
openssl verify -CAfile "$OUT/authority.crt" "$OUT/asked.crt"

kubectl get certificates,certificaterequests,issuers,clusterissuers -A
kubectl delete certificate leaf authority
no_requests() { [ -z "$(kubectl get certificaterequests -o name)" ]; }
eventually 30 "requests go with their certificates" no_requests
