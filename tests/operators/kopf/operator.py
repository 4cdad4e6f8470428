"""A small operator on kopf: a Greeting has a ConfigMap, which follows it, and a status."""

import kopf
import kubernetes

GROUP = ("strata.example.com", "v1", "greetings")


@kopf.on.startup()
def begin(settings, **_):
    kubernetes.config.load_kube_config()
    settings.posting.level = 10
    settings.persistence.finalizer = "strata.example.com/kopf"
    settings.persistence.progress_storage = kopf.StatusProgressStorage(field="status.kopf")


@kopf.on.create(*GROUP)
@kopf.on.resume(*GROUP)
def created(body, spec, name, namespace, patch, **_):
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text(spec)}}
    kopf.adopt(wanted, owner=body)
    try:
        kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, wanted)
    except kubernetes.client.ApiException as error:
        if error.status != 409:
            raise
    patch.status["text"] = text(spec)
    kopf.info(body, reason="Greeted", message="made the config map")
    return {"made": True}


@kopf.on.update(*GROUP, field="spec")
def updated(spec, name, namespace, patch, **_):
    kubernetes.client.CoreV1Api().patch_namespaced_config_map(name, namespace, {"data": {"text": text(spec)}})
    patch.status["text"] = text(spec)


@kopf.on.delete(*GROUP)
def deleted(name, namespace, **_):
    note = {"metadata": {"name": f"{name}-gone"}}
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, note)


@kopf.on.event("configmaps", labels={"watched": "yes"})
def seen(type, name, namespace, **_):
    if type == "DELETED":
        kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-seen"}})


@kopf.timer(*GROUP, interval=1)
async def ticks(patch, **_):
    patch.status["timer"] = "running"


def text(spec):
    return f"hello, {spec.get('name', 'nobody')}"
