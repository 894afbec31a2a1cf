use super::*;
use crate::model::NewTrunk;
use crate::store::testing::stores;
use crate::trunk::create;

fn sample(tenant: &str, trunk_id: &str) -> Trunk {
    let new: NewTrunk = serde_json::from_value(serde_json::json!({
        "trunk_id": trunk_id, "proxy_address": "sip.example.com", "proxy_port": 5060, "username": "u",
        "realm": "a\"b'c", "allowed_ips": ["198.51.100.0/24", "2001:db8::1"], "preferred_codecs": ["PCMA"],
        "backup_trunks": ["other"], "cost_per_minute": 0.0125, "options_ping_s": 30, "active": true,
        "display_name": "Frö'; DROP TABLE trunks; --"
    }))
    .expect("a request");
    let (mut trunk, _) = create(&TenantId(tenant.to_owned()), new, Moment::from_micros(5)).expect("made");
    trunk.has_password = true;
    trunk
}

async fn insert(store: &Store, trunk: &Trunk, password: Option<&str>) -> Result<(), StoreError> {
    let sealed = password.map(|password| {
        store.seal_trunk_password(trunk, &Secret::from(password.to_owned())).expect("sealed")
    });
    let mut change = store.begin().await?;
    change.insert_trunk(trunk, sealed).await?;
    change.commit().await
}

#[tokio::test]
async fn a_trunk_comes_back_as_it_was_kept_and_only_to_its_tenant() {
    for store in stores().await {
        let (one, two) = (sample("one", "main"), sample("two", "main"));
        insert(&store, &one, Some("geheim")).await.expect("kept");
        insert(&store, &two, Some("other")).await.expect("the same name in another tenant");
        assert!(insert(&store, &one, None).await.is_err_and(|error| error.is_conflict()));
        assert_eq!(store.trunk(&one.tenant, "main").await.expect("asked").as_ref(), Some(&one));
        assert_eq!(store.trunk(&TenantId("three".to_owned()), "main").await.expect("asked"), None);
        assert_eq!(store.trunks(&one.tenant, "", 10).await.expect("asked"), std::slice::from_ref(&one));
        assert_eq!(store.trunks(&one.tenant, "main", 10).await.expect("asked"), []);
        let raw = store.rows("SELECT password FROM trunks LIMIT 9", values![]).await.expect("asked");
        for row in &raw {
            let sealed: String = row.get("password").expect("sealed");
            assert!(!sealed.contains("geheim") && !sealed.contains("other"), "{sealed}");
        }
        let open = store.active_trunks().await.expect("asked");
        let passwords: Vec<&str> = open
            .iter()
            .map(|open| open.password.as_ref().expect("opens").as_ref().expect("a password").reveal())
            .collect();
        assert_eq!(passwords, ["geheim", "other"]);
        // A sealed password that was copied to another row does not open there.
        store
            .run(
                "UPDATE trunks SET password = (SELECT password FROM trunks WHERE tenant = 'one') WHERE tenant = 'two'",
                values![],
            )
            .await
            .expect("copied");
        let open = store.active_trunks().await.expect("asked");
        assert_eq!(open.iter().map(|open| open.password.is_ok()).collect::<Vec<_>>(), [true, false]);
    }
}

#[tokio::test]
async fn a_change_meets_only_what_it_was_made_for() {
    for store in stores().await {
        let trunk = sample("one", "main");
        insert(&store, &trunk, Some("geheim")).await.expect("kept");
        let revision = store.trunk_revision().await.expect("asked");
        let changed = Trunk {
            max_concurrent_calls: 7,
            active: false,
            username: None,
            updated_at: Moment::from_micros(9),
            ..trunk.clone()
        };
        let mut change = store.begin().await.expect("begun");
        assert!(change.update_trunk(&changed, trunk.updated_at, None).await.expect("changed"));
        assert!(!change.update_trunk(&changed, trunk.updated_at, None).await.expect("somebody was faster"));
        change.commit().await.expect("committed");
        assert_eq!(store.trunk(&trunk.tenant, "main").await.expect("asked"), Some(changed.clone()));
        assert_ne!(store.trunk_revision().await.expect("asked"), revision);
        let without = Trunk { has_password: false, updated_at: Moment::from_micros(10), ..changed.clone() };
        let mut change = store.begin().await.expect("begun");
        assert!(change.update_trunk(&without, changed.updated_at, Some(None)).await.expect("changed"));
        assert_eq!(change.trunk(&trunk.tenant, "main").await.expect("asked"), Some(without));
        assert!(!change.delete_trunk(&TenantId::default(), "main").await.expect("not theirs"));
        assert!(change.delete_trunk(&trunk.tenant, "main").await.expect("deleted"));
        change.commit().await.expect("committed");
        assert_eq!(store.trunk(&trunk.tenant, "main").await.expect("asked"), None);
        assert!(store.trunk_states(&trunk.tenant).await.expect("asked").is_empty());
    }
}

#[tokio::test]
async fn one_node_holds_a_trunk_until_it_does_not_ask_again() {
    for store in stores().await {
        for name in ["a", "b"] {
            insert(&store, &sample("one", name), None).await.expect("kept");
        }
        let at = Moment::from_micros;
        let held = async |node: &str, now: i64| {
            store.hold_trunks(node, at(now), at(now + 100)).await.expect("asked").len()
        };
        assert_eq!(held("first", 1_000).await, 2);
        assert_eq!(held("second", 1_050).await, 0);
        assert_eq!(held("first", 1_090).await, 2);
        assert_eq!(held("second", 1_150).await, 0, "it was renewed");
        assert_eq!(held("second", 1_300).await, 2, "the first one is gone");
        assert_eq!(held("first", 1_310).await, 0);
        store.release_trunks("second").await.expect("given back");
        assert_eq!(held("first", 1_320).await, 2);
    }
}

#[tokio::test]
async fn a_state_is_kept_and_shown() {
    for store in stores().await {
        let trunk = sample("one", "main");
        insert(&store, &trunk, None).await.expect("kept");
        let fresh = store.trunk_state(&trunk.tenant, "main").await.expect("asked").expect("there");
        assert_eq!((fresh.state, fresh.ping), (TrunkState::Inactive, PingState::Unknown));
        let kept = KeptState {
            state: TrunkState::Failed,
            since: Moment::from_micros(77),
            cause: Some("403 Forbidden".to_owned()),
            expires_s: None,
            ping: PingState::Down,
            ping_ms: Some(1.5),
            node: None,
        };
        let mut change = store.begin().await.expect("begun");
        assert!(change.keep_trunk_state(&trunk.tenant, "main", &kept).await.expect("kept"));
        assert!(!change.keep_trunk_state(&trunk.tenant, "gone", &kept).await.expect("nothing there"));
        change.commit().await.expect("committed");
        assert_eq!(store.trunk_states(&trunk.tenant).await.expect("asked").get("main"), Some(&kept));
        assert!(store.trunk_states(&TenantId::default()).await.expect("asked").is_empty());
    }
}
