package example;

import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.api.model.ObjectMetaBuilder;
import io.fabric8.kubernetes.api.model.OwnerReferenceBuilder;
import io.fabric8.kubernetes.api.model.GenericKubernetesResource;
import io.fabric8.kubernetes.api.model.apiextensions.v1.CustomResourceDefinition;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.KubernetesClientException;
import io.fabric8.kubernetes.client.dsl.base.PatchContext;
import io.fabric8.kubernetes.client.dsl.base.PatchType;
import io.fabric8.kubernetes.client.extended.leaderelection.LeaderCallbacks;
import io.fabric8.kubernetes.client.extended.leaderelection.LeaderElectionConfigBuilder;
import io.fabric8.kubernetes.client.extended.leaderelection.resourcelock.LeaseLock;
import io.fabric8.kubernetes.client.informers.ResourceEventHandler;
import io.fabric8.kubernetes.client.informers.SharedIndexInformer;
import java.io.File;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** An operator on fabric8's client, and the client that asks it to work. */
public class Greeter {
  static final int PATIENCE = 20;

  public static void main(String[] arguments) throws Exception {
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      define(client, Path.of(arguments[0]).toFile());
      led(client);
      SharedIndexInformer<Greeting> informer = operate(client);
      reconciled(client);
      generic(client);
      conflicts(client);
      deleted(client);
      informer.stop();
    }
    System.out.println("all is as it should be");
    System.exit(0);
  }

  static void define(KubernetesClient client, File file) {
    CustomResourceDefinition definition = client.apiextensions().v1().customResourceDefinitions().load(file).item();
    client.resource(definition).serverSideApply();
    client.resource(definition).waitUntilCondition(found -> found != null && found.getStatus() != null
        && found.getStatus().getConditions().stream().anyMatch(c -> c.getType().equals("Established") && c.getStatus().equals("True")),
        PATIENCE, TimeUnit.SECONDS);
  }

  /** Leadership by a lease, given back at the end. */
  static void led(KubernetesClient client) throws Exception {
    CompletableFuture<Void> leads = new CompletableFuture<>();
    CompletableFuture<?> election = client.leaderElector()
        .withConfig(new LeaderElectionConfigBuilder().withName("greeter").withLock(new LeaseLock("default", "greeter", "one"))
            .withLeaseDuration(Duration.ofSeconds(15)).withRenewDeadline(Duration.ofSeconds(10)).withRetryPeriod(Duration.ofSeconds(2))
            .withReleaseOnCancel().withLeaderCallbacks(new LeaderCallbacks(() -> leads.complete(null), () -> { }, leader -> { })).build())
        .build().start();
    leads.get(PATIENCE, TimeUnit.SECONDS);
    check("one".equals(client.leases().inNamespace("default").withName("greeter").get().getSpec().getHolderIdentity()), "the lease is held");
    election.cancel(true);
  }

  static SharedIndexInformer<Greeting> operate(KubernetesClient client) {
    return client.resources(Greeting.class).inNamespace("default").inform(new ResourceEventHandler<>() {
      @Override
      public void onAdd(Greeting greeting) {
        reconcile(client, greeting);
      }

      @Override
      public void onUpdate(Greeting before, Greeting after) {
        reconcile(client, after);
      }

      @Override
      public void onDelete(Greeting greeting, boolean unknown) {
        client.configMaps().inNamespace("default").resource(new ConfigMapBuilder()
            .withNewMetadata().withName(greeting.getMetadata().getName() + "-gone").endMetadata().build()).create();
      }
    });
  }

  static void reconcile(KubernetesClient client, Greeting greeting) {
    String text = "hello, " + greeting.getSpec().name;
    if (greeting.getStatus() != null && text.equals(greeting.getStatus().text)) {
      return;
    }
    ConfigMap map = new ConfigMapBuilder()
        .withMetadata(new ObjectMetaBuilder().withName(greeting.getMetadata().getName()).withNamespace("default")
            .withOwnerReferences(new OwnerReferenceBuilder().withApiVersion(greeting.getApiVersion()).withKind(greeting.getKind())
                .withName(greeting.getMetadata().getName()).withUid(greeting.getMetadata().getUid()).build()).build())
        .withData(Map.of("text", text)).build();
    client.resource(map).fieldManager("greeter").forceConflicts().serverSideApply();
    client.resource(greeting).editStatus(latest -> {
      Greeting.Status status = new Greeting.Status();
      status.text = text;
      latest.setStatus(status);
      return latest;
    });
  }

  static void reconciled(KubernetesClient client) {
    Greeting greeting = new Greeting();
    greeting.setMetadata(new ObjectMetaBuilder().withName("one").withNamespace("default").build());
    greeting.setSpec(new Greeting.Spec());
    greeting.getSpec().name = "world";
    client.resource(greeting).create();
    says(client, "hello, world");
    client.resources(Greeting.class).inNamespace("default").withName("one").edit(latest -> {
      latest.getSpec().name = "you";
      return latest;
    });
    says(client, "hello, you");
  }

  static void says(KubernetesClient client, String text) {
    client.configMaps().inNamespace("default").withName("one")
        .waitUntilCondition(found -> found != null && text.equals(found.getData().get("text")), PATIENCE, TimeUnit.SECONDS);
    client.resources(Greeting.class).inNamespace("default").withName("one")
        .waitUntilCondition(found -> found.getStatus() != null && text.equals(found.getStatus().text), PATIENCE, TimeUnit.SECONDS);
  }

  /** The same object without a class, and lists in pages. */
  static void generic(KubernetesClient client) {
    GenericKubernetesResource any = client.genericKubernetesResources("strata.example.com/v1", "Greeting").inNamespace("default").withName("one").get();
    check("you".equals(any.get("spec", "name")), "as anything");
    for (int i = 0; i < 5; i++) {
      client.configMaps().inNamespace("default").resource(new ConfigMapBuilder().withNewMetadata().withName("page-" + i)
          .addToLabels("page", "yes").endMetadata().build()).create();
    }
    var first = client.configMaps().inNamespace("default").withLabel("page", "yes").list(new io.fabric8.kubernetes.api.model.ListOptionsBuilder().withLimit(3L).build());
    check(first.getItems().size() == 3 && first.getMetadata().getRemainingItemCount() == null, "a page of three");
    var second = client.configMaps().inNamespace("default").withLabel("page", "yes").list(new io.fabric8.kubernetes.api.model.ListOptionsBuilder()
        .withLimit(3L).withContinue(first.getMetadata().getContinue()).build());
    check(second.getItems().size() == 2, "and the rest");
    client.configMaps().inNamespace("default").withName("page-0").patch(PatchContext.of(PatchType.JSON_MERGE), "{\"data\":{\"a\":\"b\"}}");
    client.configMaps().inNamespace("default").withName("page-0").patch(PatchContext.of(PatchType.JSON), "[{\"op\":\"add\",\"path\":\"/data/c\",\"value\":\"d\"}]");
    check(client.configMaps().inNamespace("default").withName("page-0").get().getData().equals(Map.of("a", "b", "c", "d")), "patched");
    check(client.configMaps().inNamespace("default").withLabel("page", "yes").delete().size() == 5, "deleted by label");
  }

  static void conflicts(KubernetesClient client) {
    Greeting stale = client.resources(Greeting.class).inNamespace("default").withName("one").get();
    client.resources(Greeting.class).inNamespace("default").withName("one").edit(latest -> {
      latest.getMetadata().setLabels(Map.of("a", "b"));
      return latest;
    });
    try {
      client.resource(stale).lockResourceVersion().update();
      check(false, "a stale version is refused");
    } catch (KubernetesClientException refused) {
      check(refused.getCode() == 409, "as a conflict");
    }
    try {
      stale.getSpec().name = null;
      stale.getMetadata().setResourceVersion(null);
      client.resource(stale).update();
      check(false, "a missing name is refused");
    } catch (KubernetesClientException refused) {
      check(refused.getCode() == 422 && refused.getStatus().getDetails().getCauses().get(0).getField().equals("spec.name"), "with its field");
    }
  }

  static void deleted(KubernetesClient client) {
    client.resources(Greeting.class).inNamespace("default").withName("one").withPropagationPolicy(io.fabric8.kubernetes.api.model.DeletionPropagation.FOREGROUND).delete();
    client.configMaps().inNamespace("default").withName("one").waitUntilCondition(found -> found == null, PATIENCE, TimeUnit.SECONDS);
    client.configMaps().inNamespace("default").withName("one-gone").waitUntilCondition(found -> found != null, PATIENCE, TimeUnit.SECONDS);
  }

  static void check(boolean right, String what) {
    if (!right) {
      throw new AssertionError(what);
    }
  }
}
