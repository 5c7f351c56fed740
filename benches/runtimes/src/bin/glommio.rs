//! The server on glommio. `glommio CPU`

use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use runtimes::{BUFFER_BYTES, Cutter, Mailbox, PUBLISHER, SUBSCRIBER, Subscribers, announce, cpu};

async fn serve(mut stream: TcpStream, subscribers: Subscribers) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut cutter: Option<Cutter> = None;
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else {
            return;
        };
        let mut bytes = &buffer[..count];
        if cutter.is_none() {
            if bytes[0] == SUBSCRIBER {
                let mailbox = Mailbox::default();
                mailbox.put(&[SUBSCRIBER]);
                subscribers.borrow_mut().push(mailbox.clone());
                return send(stream, mailbox).await;
            }
            assert_eq!(bytes[0], PUBLISHER);
            cutter = Some(Cutter::default());
            bytes = &bytes[1..];
        }
        let subscribers = subscribers.borrow();
        cutter.as_mut().expect("a publisher").cut(bytes, |whole| {
            for subscriber in subscribers.iter() {
                subscriber.put(whole);
            }
        });
    }
}

async fn send(mut stream: TcpStream, mailbox: Mailbox) {
    let mut spare = Vec::new();
    loop {
        let bytes = mailbox.take(spare).await;
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        spare = bytes;
    }
}

fn main() {
    let placement = cpu().map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .ring_depth(4_096)
        .spawn(|| async {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            announce(listener.local_addr().expect("bound"));
            let subscribers = Subscribers::default();
            loop {
                let stream = listener.accept().await.expect("a connection");
                glommio::spawn_local(serve(stream, subscribers.clone())).detach();
            }
        })
        .expect("an executor")
        .join()
        .expect("the server runs until it is killed");
}
