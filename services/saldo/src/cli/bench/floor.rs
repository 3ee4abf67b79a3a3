//! The two floors of the command path: an RPC that does nothing, and a record that is appended and read back.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use saldo_api::v1::{
    EchoRequest, EchoResponse,
    echo_service_client::EchoServiceClient,
    echo_service_server::{EchoService, EchoServiceServer},
};
use saldo_auth::Verifier;
use saldo_log::NewRecord;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    service::interceptor::InterceptedService,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use super::{Failure, SharedLog};

/// The sizes of an IssueInvoice request and of its record, roughly.
const REQUEST: usize = 80;
const RECORD: usize = 450;

/// An echo server and a client of it.
pub struct Echo {
    client: EchoServiceClient<tonic::transport::Channel>,
    token: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

struct Same;

#[tonic::async_trait]
impl EchoService for Same {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(EchoResponse { body: request.into_inner().body }))
    }
}

impl Echo {
    /// Serves on a free port behind the same interceptor as everything else.
    pub async fn start(verifier: Verifier, token: &str) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?;
        let service = InterceptedService::new(EchoServiceServer::new(Same), verifier);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let client = EchoServiceClient::new(endpoint.connect().await?);
        Ok(Self { client, token: format!("Bearer {token}").parse()?, server })
    }

    pub async fn call(&self) -> Result<(), Failure> {
        let mut request = Request::new(EchoRequest { body: vec![7; REQUEST] });
        request.metadata_mut().insert("authorization", self.token.clone());
        self.client.clone().echo(request).await?;
        Ok(())
    }

    pub async fn stop(self) {
        self.server.abort();
        // The abort is ours, so its error is expected.
        let _ = self.server.await;
    }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// A topic of its own with one reader, which tells each writer when its record has been read.
pub struct RoundTrip {
    log: SharedLog,
    partitions: u32,
    count: AtomicU64,
    waiting: Waiting,
}

impl RoundTrip {
    /// Creates the topic and follows it.
    pub async fn start(log: SharedLog, partitions: u32) -> Result<Self, Failure> {
        log.create(partitions).await?;
        let mut from = Vec::new();
        for partition in 0..partitions {
            from.push((partition, log.end(partition).await?));
        }
        let mut tail = log.tail(&from).await?;
        let waiting = Waiting::default();
        let told = Arc::downgrade(&waiting);
        tokio::spawn(async move {
            while let Ok(records) = tail.next(2_048).await {
                let Some(waiting) = told.upgrade() else { return };
                let Ok(mut waiting) = waiting.lock() else { return };
                for record in records {
                    let number = record.key.as_ref().try_into().map(u64::from_be_bytes);
                    if let Some(waiter) = number.ok().and_then(|number| waiting.remove(&number)) {
                        let _ = waiter.send(());
                    }
                }
            }
        });
        Ok(Self { log, partitions, count: AtomicU64::new(0), waiting })
    }

    /// Appends one record and waits until it is read back.
    pub async fn call(&self) -> Result<(), Failure> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (waiter, came) = oneshot::channel();
        self.waiting.lock().map_err(|_| "the reader panicked")?.insert(number, waiter);
        let partition = (number % u64::from(self.partitions)) as u32;
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        let appended = self.log.append(vec![NewRecord { partition, key, value: vec![7; RECORD].into(), trace: None }]);
        let (appended, came) = tokio::join!(appended, came);
        appended?;
        came?;
        Ok(())
    }
}
