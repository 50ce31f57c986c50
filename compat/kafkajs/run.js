// The repertoire of kafkajs against a broker: `node run.js HOST:PORT,...`, kafkajs on NODE_PATH.
//
// Groups and transactions are in groups.js.
//
// kafkajs has no consumer outside a group. Reading by assignment therefore goes through its own
// cluster and broker objects (the ones its consumer uses), so that requests, record decoding and
// codecs are kafkajs's. Codecs: gzip is built in, snappy and lz4 come from plug-in packages; the
// zstd plug-in (@kafkajs/zstd, over cppzst) no longer compiles on current Node, so zstd is wired to
// a WebAssembly build through kafkajs's documented codec table.
'use strict'

const { isDeepStrictEqual } = require('util')
const crypto = require('crypto')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } =
  require('kafkajs')
const snappy = require('kafkajs-snappy')
const { LZ4Codec } = requireLz4()
const zstd = require('@bokuweb/zstd-wasm')
const groups = require('./groups')

const DEADLINE = 20000
const stamp = `${process.pid}-${Date.now()}`
const kafka = new Kafka({
  clientId: 'compat',
  brokers: process.argv[2].split(','),
  logLevel: logLevel.NOTHING,
  retry: { retries: 3, initialRetryTime: 50 },
})
const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}
let failures = 0

function requireLz4() {
  const found = require('@2l/kafkajs-lz4')
  return { LZ4Codec: found.default || found.LZ4Codec || found }
}

function wireCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = snappy
  CompressionCodecs[CompressionTypes.LZ4] = new LZ4Codec().codec
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
    decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
  })
}

async function feature(name, work) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${DEADLINE} ms`)), DEADLINE)
  })
  try {
    const missing = await Promise.race([work(), late])
    console.log(missing ? `missing ${name}: ${missing}` : `ok ${name}`)
  } catch (error) {
    failures += 1
    console.log(error.stack)
    console.log(`FAILED ${name}: ${String(error.message).split('\n')[0]}`)
  } finally {
    clearTimeout(timer)
  }
}

function check(got, expected) {
  if (!isDeepStrictEqual(got, expected)) {
    const show = value => JSON.stringify(value, plain).slice(0, 300)
    throw new Error(`got ${show(got)}, expected ${show(expected)}`)
  }
}

// Brokers hear of changes one after the other.
async function until(holds) {
  const end = Date.now() + DEADLINE
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${DEADLINE} ms: ${holds}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

function plain(_, value) {
  return typeof value === 'bigint' ? String(value) : value
}

async function withAdmin(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function withProducer(settings, work) {
  const producer = kafka.producer({ createPartitioner: () => pick, ...settings })
  await producer.connect()
  try {
    return await work(producer)
  } finally {
    await producer.disconnect()
  }
}

function pick({ message }) {
  return message.partition || 0
}

async function withCluster(work) {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    s => s.description === 'private:Kafka:createCluster'
  )
  const cluster = kafka[symbol]({ metadataMaxAge: 300000 })
  await cluster.connect()
  try {
    return await work(cluster)
  } finally {
    await cluster.disconnect()
  }
}

function createTopic(topic, numPartitions = 1, configEntries = []) {
  return withAdmin(admin =>
    admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] })
  )
}

// Reads `count` records of the given partitions from the given offsets, as an assigned consumer does.
function read(topic, starts, count) {
  return withCluster(async cluster => {
    await cluster.addTargetTopic(topic)
    const next = new Map(Object.entries(starts).map(([p, offset]) => [Number(p), BigInt(offset)]))
    const leaders = new Map(
      cluster.findTopicPartitionMetadata(topic).map(p => [p.partitionId, p.leader])
    )
    const got = []
    const end = Date.now() + DEADLINE
    while (got.length < count && Date.now() < end) {
      const responses = []
      for (const leader of new Set(leaders.values())) {
        const led = [...next].filter(([partition]) => leaders.get(partition) === leader)
        if (led.length === 0) continue
        const broker = await cluster.findBroker({ nodeId: leader })
        const answer = await broker.fetch({
          maxWaitTime: 100,
          minBytes: 1,
          maxBytes: 10485760,
          isolationLevel: 1,
          topics: [
            {
              topic,
              partitions: led.map(([partition, offset]) => ({
                partition,
                fetchOffset: String(offset),
                maxBytes: 1048576,
              })),
            },
          ],
        })
        responses.push(...answer.responses)
      }
      for (const { partitions } of responses) {
        for (const { partition, messages } of partitions) {
          for (const message of messages) {
            if (BigInt(message.offset) < next.get(partition)) continue
            got.push({ partition, ...message })
            next.set(partition, BigInt(message.offset) + 1n)
          }
        }
      }
    }
    if (got.length !== count) throw new Error(`${got.length} of ${count} records`)
    return got.sort((a, b) => a.partition - b.partition || Number(a.offset) - Number(b.offset))
  })
}

function records(count) {
  const base = Math.floor(Date.now() / 1000) * 1000 - 3600000
  const made = []
  for (let n = 0; n < count; n += 1) {
    made.push({
      partition: 0,
      key: n % 3 === 1 ? Buffer.from(`key-${n}`) : null,
      value: value(n),
      headers: n % 4 ? { trace: Buffer.from([0, 255, n]), name: Buffer.from('ключ') } : {},
      timestamp: String(base + n * 1000),
    })
  }
  return made
}

function value(n) {
  if (n % 7 === 3) return null
  if (n % 7 === 4) return Buffer.alloc(0)
  if (n % 7 === 5) return crypto.randomBytes(20000)
  return Buffer.from(`value ${n} `.repeat(1 + n * 9))
}

function sent({ partition, key, value, headers, timestamp }) {
  return { partition, key, value, headers, timestamp }
}

async function produceAndConsume(codec, idempotent) {
  const topic = `kafkajs-${codec}-${idempotent}-${stamp}`
  await createTopic(topic)
  const made = records(42)
  await withProducer({ idempotent, maxInFlightRequests: 1 }, async producer => {
    const acks = idempotent ? -1 : 1
    const half = async (from, to) => {
      const [answer] = await producer.send({
        topic,
        compression: codecs[codec],
        acks,
        messages: made.slice(from, to),
      })
      check([answer.errorCode, answer.baseOffset], [0, String(from)])
    }
    await half(0, 21)
    await half(21, 42)
  })
  check((await read(topic, { 0: 0 }, 42)).map(sent), made)
  check((await read(topic, { 0: 30 }, 12)).map(sent), made.slice(30))
  await withAdmin(async admin => {
    const moment = Number(made[25].timestamp) - 1
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, moment)
    check(found, [{ partition: 0, offset: '25' }])
    const [{ high, low }] = await admin.fetchTopicOffsets(topic)
    check([high, low], ['42', '0'])
  })
  check((await read(topic, { 0: 25 }, 17)).map(sent), made.slice(25))
}

async function largeRecord(codec) {
  const topic = `kafkajs-large-${codec}-${stamp}`
  await createTopic(topic)
  const block = crypto.randomBytes(50000)
  const large = Buffer.concat(Array(20).fill(block))
  await withProducer({}, producer =>
    producer.send({ topic, compression: codecs[codec], messages: [{ value: large }] })
  )
  const [got] = await read(topic, { 0: 0 }, 1)
  check(got.value.equals(large), true)
}

async function manyPartitions() {
  const topic = `kafkajs-many-${stamp}`
  await createTopic(topic, 30)
  const made = Array.from({ length: 300 }, (_, n) => ({ value: `v${n}`, partition: n % 30 }))
  await withProducer({}, producer => producer.send({ topic, messages: made }))
  const starts = Object.fromEntries(Array.from({ length: 30 }, (_, p) => [p, 0]))
  const got = await read(topic, starts, 300)
  const expected = made.map(m => [m.partition, m.value])
  expected.sort((a, b) => a[0] - b[0])
  check(
    got.map(m => [m.partition, String(m.value)]),
    expected
  )
}

async function noAcknowledgement() {
  const topic = `kafkajs-acks0-${stamp}`
  await createTopic(topic)
  const messages = Array.from({ length: 30 }, (_, n) => ({ value: `v${n}` }))
  await withProducer({}, producer => producer.send({ topic, acks: 0, messages }))
  const got = await read(topic, { 0: 0 }, 30)
  check(
    got.map(m => String(m.value)),
    messages.map(m => m.value)
  )
}

async function adminTopics() {
  const topic = `kafkajs-admin-${stamp}`
  await withAdmin(async admin => {
    const topics = [{ topic, numPartitions: 2, replicationFactor: 1 }]
    check(await admin.createTopics({ topics }), true)
    check(await admin.createTopics({ topics }), false)
    check((await admin.listTopics()).includes(topic), true)
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    const count = async () => {
      const described = await admin.fetchTopicMetadata({ topics: [topic] })
      return described.topics[0].partitions.length
    }
    await until(async () => (await count()) === 5)
    const { brokers, clusterId, controller } = await admin.describeCluster()
    check([brokers.some(b => b.nodeId === controller), clusterId.length], [true, 22])
    await admin.deleteTopics({ topics: [topic] })
    await until(async () => !(await admin.listTopics()).includes(topic))
  })
}

async function adminConfigs() {
  const topic = `kafkajs-configs-${stamp}`
  await createTopic(topic, 1, [{ name: 'retention.ms', value: '86400000' }])
  await withAdmin(async admin => {
    const type = ConfigResourceTypes.TOPIC
    const ask = async () => {
      const answer = await admin.describeConfigs({
        resources: [{ type, name: topic }],
        includeSynonyms: true,
      })
      const [{ configEntries }] = answer.resources
      return configEntries.find(entry => entry.configName === 'retention.ms').configValue
    }
    check(await ask(), '86400000')
    const configEntries = [{ name: 'retention.ms', value: '7200000' }]
    await admin.alterConfigs({ resources: [{ type, name: topic, configEntries }] })
    check(await ask(), '7200000')
  })
}

async function deleteRecords() {
  const topic = `kafkajs-delete-${stamp}`
  await createTopic(topic)
  const messages = records(20)
  await withProducer({}, producer => producer.send({ topic, messages }))
  await withAdmin(async admin => {
    await admin.fetchTopicOffsets(topic) // deleteTopicRecords does not load the metadata it needs
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '8' }] })
    const [{ high, low }] = await admin.fetchTopicOffsets(topic)
    check([high, low], ['20', '8'])
  })
  check((await read(topic, { 0: 8 }, 12)).map(sent), messages.slice(8))
}

async function main() {
  await zstd.init()
  wireCodecs()
  for (const codec of Object.keys(codecs)) {
    await feature(`${codec}`, () => produceAndConsume(codec, false))
    await feature(`${codec}, idempotent`, () => produceAndConsume(codec, true))
    await feature(`large record, ${codec}`, () => largeRecord(codec))
  }
  await feature('many partitions', manyPartitions)
  await feature('acks 0', noAcknowledgement)
  await feature('admin topics', adminTopics)
  await feature('admin configs', adminConfigs)
  await feature('delete records', deleteRecords)
  const tools = { kafka, stamp, check, withAdmin, withProducer, createTopic }
  for (const [name, work] of Object.entries(groups(tools))) await feature(name, work)
  await feature('incremental configs', async () => 'kafkajs has no such call')
  process.exit(failures ? 1 : 0)
}

main()
