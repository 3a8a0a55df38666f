//! `/metrics`, `/livez` and `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::server::Machines;

/// How long a node may take to show that it lives.
const PATIENCE: Duration = Duration::from_secs(1);
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers for ever.
pub(crate) async fn run(listener: TcpListener, machines: Arc<Machines>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(machines);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "metrics are answered no more");
    }
}

async fn metrics(State(machines): State<Arc<Machines>>) -> impl IntoResponse {
    match machines.metrics().await {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, PROMETHEUS)], text),
        Err(error) => {
            let plain = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::SERVICE_UNAVAILABLE, plain, format!("{error}\n"))
        }
    }
}

async fn live(State(machines): State<Arc<Machines>>) -> impl IntoResponse {
    match tokio::time::timeout(PATIENCE, machines.exporter.is_live()).await {
        Ok(true) => (StatusCode::OK, "ok\n"),
        Ok(false) => (StatusCode::SERVICE_UNAVAILABLE, "the node has stopped\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the engine does not turn\n"),
    }
}

async fn ready(State(machines): State<Arc<Machines>>) -> impl IntoResponse {
    match tokio::time::timeout(PATIENCE, machines.exporter.is_ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n".into()),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the engine does not turn\n".into()),
    }
}
