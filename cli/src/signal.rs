//! Ctrl-C and SIGTERM.

use tokio::signal;

/// Resolves at the first of them. Later ones end the process: a drain that hangs must not need `kill -9`.
pub(crate) async fn asked_to_stop() {
    one().await;
    tokio::spawn(async {
        one().await;
        eprintln!("hither: stopped at once");
        std::process::exit(130);
    });
}

async fn one() {
    #[cfg(unix)]
    {
        use signal::unix::{SignalKind, signal};
        let mut terminate = match signal(SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be heard");
                return wait_for_ctrl_c().await;
            }
        };
        tokio::select! {
            () = wait_for_ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    wait_for_ctrl_c().await;
}

async fn wait_for_ctrl_c() {
    if signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
