//! Objects in memory behind the S3 protocol: what a store does with a request, and what an ill one does instead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use hyper::body::Bytes;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, ETag,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output, MultipartUpload, Object, PutObjectInput,
    PutObjectOutput, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::fault::Fault;

pub type Objects = BTreeMap<String, Bytes>;

#[derive(Debug, Default)]
struct Contents {
    now: Objects,
    /// Before the last write.
    before: Objects,
    /// What is seen as long as nothing else is.
    frozen: Option<Objects>,
    /// Uploads in parts that are not put together, by their numbers.
    uploads: BTreeMap<u64, Upload>,
    uploads_begun: u64,
}

/// An upload in parts.
#[derive(Debug, Clone)]
pub struct Upload {
    pub key: String,
    pub parts: BTreeMap<i32, Bytes>,
    pub begun: SystemTime,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Bucket {
    contents: Arc<Mutex<Contents>>,
    /// Names in a page of a listing.
    page: usize,
}

impl Bucket {
    pub fn new(page: usize) -> Self {
        Self { contents: Arc::default(), page }
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap()
    }

    /// All objects by key.
    pub fn objects(&self) -> Objects {
        self.lock().now.clone()
    }

    /// These objects and no others.
    pub fn set(&self, objects: Objects) {
        *self.lock() = Contents { now: objects.clone(), before: objects, ..Contents::default() };
    }

    /// Uploads that are not put together.
    pub fn uploads(&self) -> Vec<Upload> {
        self.lock().uploads.values().cloned().collect()
    }

    /// An upload that began so long ago.
    pub fn begin_upload(&self, key: &str, ago: Duration) -> u64 {
        let mut contents = self.lock();
        contents.uploads_begun += 1;
        let number = contents.uploads_begun;
        let begun = SystemTime::now() - ago;
        contents.uploads.insert(number, Upload { key: key.to_owned(), parts: BTreeMap::new(), begun });
        number
    }

    /// What a request sees that meets `fault`.
    fn seen(&self, fault: Option<Fault>) -> Objects {
        let mut contents = self.lock();
        match fault {
            Some(Fault::Lost) => Objects::new(),
            Some(Fault::Stale) => {
                let Contents { before, frozen, .. } = &mut *contents;
                frozen.get_or_insert_with(|| before.clone()).clone()
            }
            _ => contents.now.clone(),
        }
    }

    fn object(&self, key: &str, fault: Option<Fault>) -> S3Result<Bytes> {
        self.seen(fault).get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}

fn fault<T>(request: &S3Request<T>) -> Option<Fault> {
    request.extensions.get().copied()
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes.into()
}

/// All of a body, whose checksum is right.
async fn checked(body: Option<StreamingBlob>, checksum: Option<String>) -> S3Result<Bytes> {
    let mut body = body.ok_or_else(|| s3_error!(MissingRequestBodyError))?;
    let mut bytes = Vec::new();
    while let Some(some) = body.try_next().await.map_err(|_| s3_error!(IncompleteBody))? {
        bytes.extend_from_slice(&some);
    }
    let mut hasher = ChecksumHasher { crc32c: Some(Default::default()), ..Default::default() };
    hasher.update(&bytes);
    if hasher.finalize().checksum_crc32c != checksum { Err(s3_error!(BadDigest)) } else { Ok(bytes.into()) }
}

/// A part must have so many bytes, the last one apart.
const PART_BYTES_MIN: usize = 5 << 20;

fn number(upload: &str) -> S3Result<u64> {
    upload.parse().map_err(|_| s3_error!(NoSuchUpload))
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let upload_id = Some(self.begin_upload(&request.input.key, Duration::ZERO).to_string());
        Ok(S3Response::new(CreateMultipartUploadOutput { upload_id, ..Default::default() }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let fault = fault(&request);
        let input = request.input;
        let checksum = input.checksum_crc32c.clone();
        let bytes = checked(input.body, input.checksum_crc32c).await?;
        let stored = match fault {
            Some(Fault::Lost) => None,
            Some(Fault::Wrong) => Some(flip(&bytes, bytes.len() / 3)),
            _ => Some(bytes),
        };
        let mut contents = self.lock();
        if fault == Some(Fault::Aborted) {
            contents.uploads.remove(&number(&input.upload_id)?);
        }
        let upload = contents.uploads.get_mut(&number(&input.upload_id)?).ok_or_else(|| s3_error!(NoSuchUpload))?;
        if let Some(stored) = stored {
            upload.parts.insert(input.part_number, stored);
        }
        let e_tag = Some(ETag::Strong(format!("part-{}", input.part_number)));
        Ok(S3Response::new(UploadPartOutput { e_tag, checksum_crc32c: checksum, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let fault = fault(&request);
        let input = request.input;
        let wanted = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let mut contents = self.lock();
        let upload = contents.uploads.remove(&number(&input.upload_id)?).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let mut all = Vec::new();
        for (position, part) in wanted.iter().enumerate() {
            let bytes = part.part_number.and_then(|number| upload.parts.get(&number));
            let bytes = bytes.ok_or_else(|| s3_error!(InvalidPart))?;
            if bytes.len() < PART_BYTES_MIN && position + 1 < wanted.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            all.extend_from_slice(bytes);
        }
        let stored = match fault {
            Some(Fault::Lost) => None,
            Some(Fault::Wrong) => Some(flip(&all.clone().into(), all.len() / 3)),
            _ => Some(all.into()),
        };
        if let Some(stored) = stored {
            contents.before = contents.now.clone();
            contents.now.insert(input.key, stored);
        }
        Ok(S3Response::new(CompleteMultipartUploadOutput::default()))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let number = number(&request.input.upload_id)?;
        let gone = self.lock().uploads.remove(&number);
        gone.map(|_| S3Response::new(AbortMultipartUploadOutput::default())).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let mut all: Vec<(String, u64, SystemTime)> = Vec::new();
        for (number, upload) in &self.lock().uploads {
            all.push((upload.key.clone(), *number, upload.begun));
        }
        all.retain(|(key, ..)| key.starts_with(&prefix));
        all.sort();
        if let Some(after) = input.key_marker {
            let number: u64 = input.upload_id_marker.unwrap_or_default().parse().unwrap_or(u64::MAX);
            all.retain(|(key, other, _)| (key, other) > (&after, &number));
        }
        let is_truncated = all.len() > self.page;
        all.truncate(self.page);
        let last = all.last().cloned().filter(|_| is_truncated);
        let uploads = all.into_iter().map(|(key, number, begun)| MultipartUpload {
            key: Some(key),
            upload_id: Some(number.to_string()),
            initiated: Some(Timestamp::from(begun)),
            ..Default::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            is_truncated: Some(is_truncated),
            next_key_marker: last.as_ref().map(|(key, ..)| key.clone()),
            next_upload_id_marker: last.map(|(_, number, _)| number.to_string()),
            ..Default::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let fault = fault(&request);
        let input = request.input;
        let bytes = checked(input.body, input.checksum_crc32c).await?;
        let stored = match fault {
            Some(Fault::Lost) => None,
            // Not the bit that a wrong read flips, which would mend it.
            Some(Fault::Wrong) => Some(flip(&bytes, bytes.len() / 3)),
            _ => Some(bytes),
        };
        if let Some(stored) = stored {
            let mut contents = self.lock();
            contents.before = contents.now.clone();
            contents.now.insert(input.key, stored);
        }
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let fault = fault(&request);
        let bytes = self.object(&request.input.key, fault)?;
        let all = bytes.len() as u64;
        let (mut part, mut content_range) = (bytes.clone(), None);
        if let Some(range) = request.input.range {
            let range = range.check(all).map_err(|_| s3_error!(InvalidRange))?;
            content_range = Some(format!("bytes {}-{}/{all}", range.start, range.end - 1));
            part = bytes.slice(range.start as usize..range.end as usize);
        }
        if fault == Some(Fault::Wrong) {
            part = flip(&part, part.len() / 2);
        }
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(part.len() as i64),
            content_range,
            body: Some(StreamingBlob::from(Body::from(part))),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let fault = fault(&request);
        let length = self.object(&request.input.key, fault)?.len() as i64 + i64::from(fault == Some(Fault::Wrong));
        Ok(S3Response::new(HeadObjectOutput { content_length: Some(length), ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let fault = fault(&request);
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        // A token is the last name that was told.
        let after = input.continuation_token.clone().filter(|_| fault != Some(Fault::Repeated));
        let seen = self.seen(fault);
        let mut rest = seen
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after))
            .peekable();
        let mut contents: Vec<Object> = Vec::new();
        while contents.len() < self.page
            && let Some((key, bytes)) = rest.next()
        {
            contents.push(Object {
                key: Some(key.clone()),
                size: Some(bytes.len() as i64),
                last_modified: Some(Timestamp::from(SystemTime::now())),
                ..Default::default()
            });
        }
        let more = rest.peek().is_some();
        if let Some(last) = contents.last_mut().filter(|_| fault == Some(Fault::Wrong)) {
            last.size = last.size.map(|size| size + 1);
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            key_count: Some(contents.len() as i32),
            is_truncated: Some(more),
            next_continuation_token: contents.last().and_then(|last| last.key.clone()).filter(|_| more),
            contents: Some(contents),
            prefix: Some(prefix),
            continuation_token: input.continuation_token,
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut contents = self.lock();
        contents.before = contents.now.clone();
        contents.now.remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }
}
