//! Tenants before a real API server: what they may write, and what the operator says of it.

use inferyard_crds::{ApiKey, Condition, ModelDeployment, Plan};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::{self, BOUND, Cluster, model};

impl Cluster {
    /// A user with the permissions that the chart adds to the cluster role `edit`, in one of the other namespaces.
    pub(crate) async fn tenant(&self, other: &str) -> Client {
        let namespace = self.beside(other);
        let rbac = "rbac.authorization.k8s.io";
        let role = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": { "name": "edit" },
            "rules": [{
                "apiGroups": ["inferyard.dev"],
                "resources": ["modeldeployments", "plans", "apikeys"],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
            }],
        });
        let user = format!("system:serviceaccount:{namespace}:tenant");
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": { "name": "edit" },
            "roleRef": { "apiGroup": rbac, "kind": "Role", "name": "edit" },
            "subjects": [{ "apiGroup": rbac, "kind": "User", "name": user }],
        });
        let params = PostParams::default();
        let roles = Api::<Role>::namespaced(self.client.clone(), &namespace);
        let role = serde_json::from_value(role).unwrap();
        roles.create(&params, &role).await.unwrap();
        let bindings = Api::<RoleBinding>::namespaced(self.client.clone(), &namespace);
        let binding = serde_json::from_value(binding).unwrap();
        bindings.create(&params, &binding).await.unwrap();

        let file = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(file, &options)
            .await
            .unwrap();
        config.auth_info.impersonate = Some(user);
        let client = Client::try_from(config).unwrap();
        // The API server reads roles a moment after they are written.
        let models = Api::<ModelDeployment>::namespaced(client.clone(), &namespace);
        let granted = async {
            let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
            while models.list(&ListParams::default()).await.is_err() {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(BOUND, granted).await.unwrap();
        client
    }
}

fn resource<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &Value) -> K {
    let object = json!({
        "apiVersion": inferyard_crds::API_VERSION, "kind": kind,
        "metadata": { "name": name }, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Whether this is the reason, and the message has these words.
fn says(conditions: Option<&Vec<Condition>>, reason: &str, words: &[&str]) -> bool {
    let said = conditions.and_then(|conditions| conditions.first());
    said.is_some_and(|said| {
        said.reason == reason && words.iter().all(|word| said.message.contains(word))
    })
}

async fn until_plan(
    cluster: &Cluster,
    plans: &Api<Plan>,
    name: &str,
    reason: &str,
    words: &[&str],
) {
    let is = |found: &Plan| {
        let conditions = found.status.as_ref().map(|status| &status.conditions);
        says(conditions, reason, words)
    };
    cluster.until(plans, name, is).await;
}

async fn until_key(
    cluster: &Cluster,
    keys: &Api<ApiKey>,
    name: &str,
    reason: &str,
    words: &[&str],
) {
    let is = |found: &ApiKey| {
        let conditions = found.status.as_ref().map(|status| &status.conditions);
        says(conditions, reason, words)
    };
    cluster.until(keys, name, is).await;
}

fn plans(client: &Client, namespace: &str) -> Api<Plan> {
    Api::namespaced(client.clone(), namespace)
}

fn keys(client: &Client, namespace: &str) -> Api<ApiKey> {
    Api::namespaced(client.clone(), namespace)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_grants_nothing_beyond_his_namespace() {
    let Some(cluster) = Cluster::start_beside("tenants", &["b"]).await else {
        return;
    };
    let (home, own) = (cluster.namespace().to_owned(), cluster.beside("b"));
    let tenant = cluster.tenant("b").await;
    let (theirs, create) = (plans(&tenant, &own), PostParams::default());
    let greedy = json!({
        "priority": 1000, "price": { "perMillionTokens": "0" }, "namespaceSelector": { "any": true },
    });
    let top: Plan = resource("Plan", "top", &greedy);
    theirs.create(&create, &top).await.unwrap();
    let key = json!({ "plan": "top", "hash": hash('1') });
    let their_keys = keys(&tenant, &own);
    let key: ApiKey = resource("ApiKey", "k", &key);
    their_keys.create(&create, &key).await.unwrap();
    let words = [
        "spec.priority",
        "spec.price",
        "spec.namespaceSelector",
        &home,
    ];
    until_plan(&cluster, &theirs, "top", "NotAllowed", &words).await;
    until_key(&cluster, &their_keys, "k", "NotAllowed", &["the Plan top"]).await;

    // He has no rights in the platform's namespace, and none to write a status.
    let refused = plans(&tenant, &home).create(&create, &top).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
    let status = json!({ "status": { "observedGeneration": 1, "hash": hash('2') } });
    let params = PatchParams::default();
    let refused = their_keys
        .patch_status("k", &params, &Patch::Merge(&status))
        .await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));

    // The same Plan is the platform's to make; the tenant's is good without its excess.
    let of_home = plans(&cluster.client, &home);
    of_home.create(&create, &top).await.unwrap();
    until_plan(&cluster, &of_home, "top", "Valid", &[]).await;
    let modest = json!({ "spec": { "priority": 0, "price": null, "namespaceSelector": null } });
    theirs
        .patch("top", &params, &Patch::Merge(&modest))
        .await
        .unwrap();
    until_plan(&cluster, &theirs, "top", "Valid", &[]).await;
    until_key(&cluster, &their_keys, "k", "Valid", &[]).await;

    // The platform's key has the hash, although the tenant's is older.
    let original: ApiKey = resource(
        "ApiKey",
        "original",
        &json!({ "plan": "top", "hash": hash('1') }),
    );
    let of_home = keys(&cluster.client, &home);
    of_home.create(&create, &original).await.unwrap();
    until_key(
        &cluster,
        &their_keys,
        "k",
        "NameTaken",
        &["of another namespace"],
    )
    .await;
    until_key(&cluster, &of_home, "original", "Valid", &[]).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_one_namespace_take_none_of_another() {
    let Some(cluster) = Cluster::start_beside("scopes", &["b"]).await else {
        return;
    };
    let (home, own) = (cluster.namespace().to_owned(), cluster.beside("b"));
    let tenant = cluster.tenant("b").await;
    let source = json!({ "builtin": { "name": "demo" } });
    let squat = json!({ "model": { "source": source, "aliases": ["next"] } });
    let theirs = Api::<ModelDeployment>::namespaced(tenant.clone(), &own);
    let create = PostParams::default();
    theirs
        .create(&create, &model("squat", &squat))
        .await
        .unwrap();
    let accepted = |found: &ModelDeployment| support::reason(found, "Accepted") == Some("Valid");
    cluster.until(&theirs, "squat", accepted).await;
    let models = cluster.api::<ModelDeployment>();
    let next = model("next", &json!({ "model": { "source": source } }));
    models.create(&create, &next).await.unwrap();
    cluster.until(&models, "next", accepted).await;

    // What each may name in a plan is what its plan reaches.
    let named = |selector: Value| {
        let spec = json!({ "models": ["squat"], "namespaceSelector": selector });
        resource::<Plan>("Plan", "named", &spec)
    };
    let of_home = plans(&cluster.client, &home);
    of_home.create(&create, &named(Value::Null)).await.unwrap();
    until_plan(&cluster, &of_home, "named", "NotFound", &["squat"]).await;
    let wider = json!({ "spec": { "namespaceSelector": { "matchNames": [own] } } });
    let params = PatchParams::default();
    of_home
        .patch("named", &params, &Patch::Merge(&wider))
        .await
        .unwrap();
    until_plan(&cluster, &of_home, "named", "Valid", &[]).await;

    // Workers in the tenant's namespace let in routers of the platform's, whatever other pods are called.
    let policies = Api::<NetworkPolicy>::namespaced(cluster.client.clone(), &own);
    let made = cluster.until(&policies, "squat-worker", |_| true).await;
    let made = serde_json::to_value(made).unwrap();
    for peer in made["spec"]["ingress"][0]["from"].as_array().unwrap() {
        let rule = &peer["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(rule["key"], "kubernetes.io/metadata.name");
        assert_eq!(rule["values"], json!([home]));
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_previews_one_is_open_and_the_other_says_so() {
    let Some(cluster) = Cluster::start_beside("previews", &["b"]).await else {
        return;
    };
    let (home, own) = (cluster.namespace().to_owned(), cluster.beside("b"));
    let tenant = cluster.tenant("b").await;
    let (open, create) = (json!({ "preview": {} }), PostParams::default());
    let plan = |name: &str| resource::<Plan>("Plan", name, &open);
    let theirs = plans(&tenant, &own);
    theirs.create(&create, &plan("theirs")).await.unwrap();
    until_plan(&cluster, &theirs, "theirs", "NotAllowed", &["spec.preview"]).await;
    let of_home = plans(&cluster.client, &home);
    // Creation times have whole seconds; the name decides between equal ones.
    for name in ["first", "second"] {
        of_home.create(&create, &plan(name)).await.unwrap();
    }
    let words = [format!("the older Plan {home}/first")];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    until_plan(&cluster, &of_home, "second", "NameTaken", &words).await;
    until_plan(&cluster, &of_home, "first", "Valid", &[]).await;
    of_home
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    until_plan(&cluster, &of_home, "second", "Valid", &[]).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_goes_takes_its_key_with_it() {
    let Some(cluster) = Cluster::start("secrets").await else {
        return;
    };
    let create = PostParams::default();
    let plans = cluster.api::<Plan>();
    let plan: Plan = resource("Plan", "basic", &json!({}));
    plans.create(&create, &plan).await.unwrap();
    let secrets = cluster.api::<Secret>();
    let keys = cluster.api::<ApiKey>();
    for name in ["deleted", "emptied", "renamed"] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "key": format!("sk-{name}") },
        });
        let secret = serde_json::from_value(secret).unwrap();
        secrets.create(&create, &secret).await.unwrap();
        let spec = json!({ "plan": "basic", "secret": { "name": name, "key": "key" } });
        let key: ApiKey = resource("ApiKey", name, &spec);
        keys.create(&create, &key).await.unwrap();
        cluster
            .until(&keys, name, |found: &ApiKey| found.hash().is_some())
            .await;
    }
    let params = PatchParams::default();
    let renamed = json!({ "spec": { "secret": { "name": "another" } } });
    keys.patch("renamed", &params, &Patch::Merge(&renamed))
        .await
        .unwrap();
    let empty = json!({ "data": { "key": "" } });
    secrets
        .patch("emptied", &params, &Patch::Merge(&empty))
        .await
        .unwrap();
    secrets
        .delete("deleted", &DeleteParams::default())
        .await
        .unwrap();
    for (name, reason) in [
        ("renamed", "NotFound"),
        ("deleted", "NotFound"),
        ("emptied", "Invalid"),
    ] {
        let revoked = cluster
            .until(&keys, name, |found: &ApiKey| found.hash().is_none())
            .await;
        let conditions = revoked.status.as_ref().map(|status| &status.conditions);
        assert!(says(conditions, reason, &[]), "{name}: {conditions:?}");
    }
    cluster.end().await;
}
