//! A store that counts its calls, and lets the real server die at one of them. It changes no answer: what a
//! call then gives is what a client of a dead server is given.

use akidb::tiering::{
    BoxFuture, Capabilities, Head, ListPage, MultipartStore, Object, ObjectKey, ObjectStore,
    PageToken, PartPage, PartReceipt, PutCondition, PutOptions, PutReceipt, StoreResult, Upload,
    UploadOptions, UploadPage,
};
use akidb_tests::real_server;
use akidb_vfs::thread::spawn;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{net::TcpStream, ops::Range, sync::Arc, thread::JoinHandle, time::Duration};

#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn ObjectStore>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Of all calls.
    seen: Vec<&'static str>,
    /// At the how manieth from now, of the calls of this name or of all.
    strike: Option<(Option<&'static str>, u64)>,
    restart: Option<JoinHandle<()>>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Mutex::default() })
    }

    /// The names of the calls since this was asked last.
    pub(crate) fn seen(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.plan.lock().seen)
    }

    /// The server dies at the `nth` call from now on, of this name if one is given: the call finds it dead.
    pub(crate) fn strike(&self, verb: Option<&'static str>, nth: u64) {
        self.plan.lock().strike = Some((verb, nth));
    }

    /// Waits for a server that died. Did it?
    pub(crate) fn is_back(&self) -> bool {
        let (restart, left) = {
            let mut plan = self.plan.lock();
            (plan.restart.take(), plan.strike.take())
        };
        let Some(restart) = restart else { return false };
        assert_eq!(left, None, "it struck");
        restart.join().expect("the server comes back");
        true
    }

    fn call(&self, verb: &'static str) {
        let mut plan = self.plan.lock();
        plan.seen.push(verb);
        let Some((wanted, nth)) = &mut plan.strike else { return };
        if wanted.is_none_or(|wanted| wanted == verb) {
            *nth -= 1;
        }
        if *nth > 0 {
            return;
        }
        plan.strike = None;
        let restart = || real_server::restart().expect("the server comes back");
        let restart = spawn("killer", restart).expect("a thread");
        wait_for_its_death(&restart);
        plan.restart = Some(restart);
    }
}

/// Until nobody listens. The command that kills waits half a second before it starts the server again.
fn wait_for_its_death(restart: &JoinHandle<()>) {
    let endpoint = real_server::variable("AKIDB_S3_ENDPOINT").expect("the script sets it");
    let address = endpoint.strip_prefix("http://").expect("plain HTTP on loopback");
    while TcpStream::connect(address).is_ok() && !restart.is_finished() {
        // A server that is asked without a pause has no room left for those who come to talk.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

impl ObjectStore for Watched {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move {
            self.call("put");
            self.inner.put(key, body, options).await
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(async move {
            self.call("get");
            self.inner.get(key).await
        })
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(async move {
            self.call("get_ranges");
            self.inner.get_ranges(key, ranges).await
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(async move {
            self.call("head");
            self.inner.head(key).await
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            self.call("delete");
            self.inner.delete(key).await
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [ObjectKey]) -> BoxFuture<'a, Vec<StoreResult<()>>> {
        Box::pin(async move {
            self.call("delete_many");
            self.inner.delete_many(keys).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move {
            self.call("list");
            self.inner.list(prefix, after, limit).await
        })
    }

    fn multipart(&self) -> Option<&dyn MultipartStore> {
        self.inner.multipart().map(|_| self as &dyn MultipartStore)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

impl Watched {
    fn parts(&self) -> &dyn MultipartStore {
        self.inner.multipart().expect("asked for only where there is one")
    }
}

impl MultipartStore for Watched {
    fn create<'a>(
        &'a self,
        key: &'a ObjectKey,
        options: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>> {
        Box::pin(async move {
            self.call("create");
            self.parts().create(key, options).await
        })
    }

    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>> {
        Box::pin(async move {
            self.call("put_part");
            self.parts().put_part(upload, number, body).await
        })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move {
            self.call("complete");
            self.parts().complete(upload, parts, condition).await
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            self.call("abort");
            self.parts().abort(upload).await
        })
    }

    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>> {
        Box::pin(async move {
            self.call("list_parts");
            self.parts().list_parts(upload, after, limit).await
        })
    }

    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>> {
        Box::pin(async move {
            self.call("list_uploads");
            self.parts().list_uploads(prefix, after, limit).await
        })
    }
}
