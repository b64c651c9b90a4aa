use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::{App, State, Token};
use crate::backdoor;
use crate::bucket::Bucket;
use crate::call;
use crate::clock::Clock;
use crate::config::Config;
use crate::connection::{Cut, Listener};
use crate::error::Error;
use crate::faults::Trouble;
use crate::journal::Journal;
use crate::vendor::Vendor;

/// How long open connections may take to end when the simulator stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Starts simulated vendors.
#[derive(Debug)]
pub struct Simulator;

/// A simulator that listens. Dropped without [`Running::stop`], it stops soon, but nothing waits for it.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the port it got.
    pub address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Simulator {
    /// Restores the data folder and listens.
    ///
    /// # Errors
    /// When the configuration or the vendor folder is wrong, the address is taken, or the data folder is in use,
    /// damaged or not writable.
    pub async fn start(config: Config) -> Result<Running, Error> {
        config.check()?;
        let vendor = Vendor::load(&config.vendor)?;
        let limit = config.limit.unwrap_or(vendor.budget);
        let bucket = Bucket::new(limit)?;
        let listening = TcpListener::bind(config.listen).await;
        let listener = listening.map_err(Error::io(format!("listening on {}", config.listen)))?;
        let address = listener.local_addr().map_err(Error::io("asking for the address listened on"))?;
        let (journal, world) = Journal::open(&config.data, &vendor, config.calls_kept)?;
        let clock = Clock::start();
        let trouble = Trouble::new(config.faults, clock.now_us());
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(App {
            vendor,
            limit,
            bucket,
            clock,
            token: Token::new(&config.token),
            admin_token: Token::new(&config.admin_token),
            journal,
            state: Mutex::new(State::new(world, trouble)),
            stop: stopped,
        });
        tracing::info!(%address, data = %config.data.display(), "simulated vendor listens");
        let server = tokio::spawn(serve(listener, Arc::clone(&app)));
        Ok(Running { address, app, stop, server })
    }
}

async fn serve(listener: TcpListener, app: Arc<App>) -> std::io::Result<()> {
    let mut stop = app.stop.clone();
    let routes = backdoor::routes(&app).fallback(call::answer).with_state(app);
    let service = routes.into_make_service_with_connect_info::<Cut>();
    let stopping = async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(Listener(listener), service).with_graceful_shutdown(stopping).await
}

impl Running {
    /// Base URL of the API, such as `http://127.0.0.1:9000`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends calls (those still delayed without doing anything), and closes the data folder.
    ///
    /// # Errors
    /// When the server had ended by itself.
    pub async fn stop(self) -> Result<(), Error> {
        let Self { app, stop, mut server, .. } = self;
        stop.send_replace(true);
        let served = match tokio::time::timeout(STOP_LIMIT, &mut server).await {
            Ok(Ok(served)) => served.map_err(Error::io("serving")),
            Ok(Err(error)) => Err(Error::Broken(format!("the server's task failed: {error}"))),
            Err(_) => {
                // Somebody keeps a connection open; what it still asks is answered with an error.
                server.abort();
                Ok(())
            }
        };
        let closed = tokio::task::spawn_blocking(move || app.journal.stop()).await;
        served.and(closed.map_err(|error| Error::Broken(format!("closing the journal: {error}"))))
    }
}
