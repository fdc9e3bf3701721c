//! A network that counts what goes through it, both ways.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use halcyon_core::env::{BoxFuture, BoxStream, Env, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module's page.
struct Counted {
    inner: Arc<dyn Network>,
    bytes: Arc<AtomicU64>,
}

struct CountedStream {
    inner: BoxStream,
    bytes: Arc<AtomicU64>,
}

/// The same world with a network that counts into `bytes`.
pub fn counted(env: Env, bytes: &Arc<AtomicU64>) -> Env {
    let network = Counted {
        inner: env.network,
        bytes: Arc::clone(bytes),
    };
    Env {
        network: Arc::new(network),
        ..env
    }
}

impl Network for Counted {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        let (connecting, bytes) = (self.inner.connect(address), Arc::clone(&self.bytes));
        Box::pin(async move {
            let inner = connecting.await?;
            let stream: BoxStream = Box::new(CountedStream { inner, bytes });
            Ok(stream)
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.inner.listen(address)
    }
}

impl CountedStream {
    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.count(buffer.filled().len() - before);
        done
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, buffer);
        if let Poll::Ready(Ok(bytes)) = &done {
            self.count(*bytes);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
