//! The way that media takes: which device each worker uses now, and why none of the better ones.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::routes::Api;

/// What was taken at the start, and what is in use at this moment.
pub(super) async fn show(State(api): State<Arc<Api>>) -> Json<Value> {
    let engine = api.media.engine();
    let device = engine.device();
    let refused = device.refused.iter();
    let refused = refused.map(|(device, reason)| json!({ "device": device.name(), "reason": reason }));
    let workers = engine.devices_in_use().into_iter().enumerate();
    let workers = workers.map(|(worker, device)| json!({ "worker": worker, "device": device }));
    Json(json!({
        "started": device.name,
        "taken": device.taken,
        "interface": engine.interface().map(|interface| interface.taken().interface.clone()),
        "ports": device.ports,
        "refused": refused.collect::<Vec<_>>(),
        "workers": workers.collect::<Vec<_>>(),
    }))
}
