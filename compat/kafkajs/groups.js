// Consumer groups and transactions of kafkajs: the part of its repertoire that a coordinator serves.
//
// Each feature gets the helpers of run.js: kafka, stamp, check, withAdmin, withProducer, createTopic.
'use strict'

const DEADLINE = 15000
const QUICK = { sessionTimeout: 6000, heartbeatInterval: 200, rebalanceTimeout: 6000, maxWaitTimeInMs: 50 }

module.exports = tools => {
  const { kafka, stamp, check, withAdmin, withProducer, createTopic } = tools

  // A member that notes what it reads; `until(n)` waits for n records in all, `joined` for a generation.
  async function member(groupId, topic, settings = {}, run = {}) {
    const consumer = kafka.consumer({ groupId, ...QUICK, ...settings })
    const got = []
    const waiting = []
    const assignments = []
    const tell = () => waiting.forEach(look => look())
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      assignments.push({ ...payload, partitions: payload.memberAssignment[topic] || [] })
      tell()
    })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        got.push({ partition, offset: Number(message.offset), value: String(message.value) })
        tell()
      },
      ...run,
    })
    const until = (condition, what) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`not within ${DEADLINE} ms: ${what()}`)),
          DEADLINE
        )
        const look = () => {
          if (!condition()) return
          clearTimeout(timer)
          waiting.splice(waiting.indexOf(look), 1)
          resolve()
        }
        waiting.push(look)
        look()
      })
    return {
      consumer,
      got,
      assignments,
      read: count => until(() => got.length >= count, () => `${got.length} of ${count} records`),
      owns: count =>
        until(
          () => assignments.length && assignments[assignments.length - 1].partitions.length === count,
          () => `owns ${JSON.stringify(assignments.map(a => a.partitions))}, ${count} are due`
        ),
      leave: () => consumer.disconnect(),
    }
  }

  function write(topic, from, to, settings = {}) {
    const messages = []
    for (let n = from; n < to; n += 1) messages.push({ partition: n % 4, value: `v${n}` })
    return withProducer(settings, producer => producer.send({ topic, acks: -1, messages }))
  }

  function values(got) {
    return got.map(({ value }) => value).sort((a, b) => a.slice(1) - b.slice(1))
  }

  function expected(from, to) {
    return Array.from({ length: to - from }, (_, n) => `v${from + n}`)
  }

  async function groupAndRebalance() {
    const topic = `kafkajs-group-${stamp}`
    const groupId = `group-${topic}`
    await createTopic(topic, 4)
    await write(topic, 0, 40)
    const first = await member(groupId, topic)
    await first.owns(4)
    await first.read(40)
    const second = await member(groupId, topic)
    await Promise.all([first.owns(2), second.owns(2)])
    await write(topic, 40, 80)
    await Promise.all([first.read(60), second.read(20)])
    check(values([...first.got, ...second.got]), expected(0, 80))
    const owned = [first, second].map(m => m.assignments[m.assignments.length - 1].partitions)
    check(owned.flat().sort(), [0, 1, 2, 3])
    await withAdmin(async admin => {
      const { groups } = await admin.describeGroups([groupId])
      check([groups[0].state, groups[0].members.length], ['Stable', 2])
      const listed = (await admin.listGroups()).groups.map(g => g.groupId)
      check(listed.includes(groupId), true)
    })
    await second.leave()
    await first.owns(4)
    await write(topic, 80, 100)
    await first.read(80)
    await first.leave()
    const third = await member(groupId, topic)
    await write(topic, 100, 104)
    await third.read(4)
    check(values(third.got), expected(100, 104))
    await third.leave()
  }

  async function commitsAndSeek() {
    const topic = `kafkajs-commits-${stamp}`
    const groupId = `group-${topic}`
    await createTopic(topic, 4)
    await write(topic, 0, 40)
    const first = await member(groupId, topic, {}, { autoCommit: false })
    await first.read(40)
    const offsets = [0, 1, 2, 3].map(partition => ({ topic, partition, offset: String(partition * 2) }))
    await first.consumer.commitOffsets(offsets)
    await first.leave()
    const committed = async () => {
      const [found] = await withAdmin(admin => admin.fetchOffsets({ groupId, topics: [topic] }))
      return found.partitions.map(p => Number(p.offset))
    }
    check(await committed(), [0, 2, 4, 6])
    const second = await member(groupId, topic, {}, { autoCommit: false })
    await second.read(28)
    second.consumer.seek({ topic, partition: 3, offset: '9' })
    await second.read(29)
    check(second.got[28], { partition: 3, offset: 9, value: 'v39' })
    await second.leave()
    await withAdmin(async admin => {
      await admin.setOffsets({ groupId, topic, partitions: [{ partition: 1, offset: '9' }] })
      check(await committed(), [0, 9, 4, 6])
      await admin.resetOffsets({ groupId, topic, earliest: true })
      // the word for the beginning, which the group's next member resolves
      check(await committed(), [-2, -2, -2, -2])
      await admin.deleteGroups([groupId])
      check((await admin.listGroups()).groups.some(g => g.groupId === groupId), false)
    })
  }

  async function transactions() {
    const topic = `kafkajs-transactions-${stamp}`
    const groupId = `group-${topic}`
    await createTopic(topic, 4)
    const settings = { transactionalId: `id-${topic}`, maxInFlightRequests: 1, idempotent: true }
    await withProducer(settings, async producer => {
      for (const [from, commit] of [[0, true], [4, false], [8, true]]) {
        const transaction = await producer.transaction()
        const messages = [0, 1, 2, 3].map(n => ({ partition: n, value: `v${from + n}` }))
        await transaction.send({ topic, messages })
        const topics = [{ topic, partitions: [{ partition: 0, offset: String(from + 1) }] }]
        await transaction.sendOffsets({ consumerGroupId: groupId, topics })
        await (commit ? transaction.commit() : transaction.abort())
      }
    })
    const reads = async (readUncommitted, count) => {
      const reader = await member(`${groupId}-${readUncommitted}`, topic, { readUncommitted })
      await reader.read(count)
      await reader.leave()
      return values(reader.got)
    }
    check(await reads(true, 12), expected(0, 12))
    check(await reads(false, 8), [...expected(0, 4), ...expected(8, 12)])
    const end = Date.now() + DEADLINE
    for (;;) {
      // the marker reaches the group a moment after the commit
      const [found] = await withAdmin(admin => admin.fetchOffsets({ groupId, topics: [topic] }))
      if (found.partitions.find(p => p.partition === 0).offset === '9') break
      if (Date.now() > end) throw new Error(`committed: ${JSON.stringify(found)}`)
    }
  }

  async function fencing() {
    const topic = `kafkajs-fencing-${stamp}`
    await createTopic(topic, 4)
    const settings = { transactionalId: `id-${topic}`, maxInFlightRequests: 1, idempotent: true }
    await withProducer(settings, async zombie => {
      const first = await zombie.transaction()
      await first.send({ topic, messages: [{ partition: 0, value: 'zombie' }] })
      await withProducer(settings, async heir => {
        const second = await heir.transaction()
        await second.send({ topic, messages: [{ partition: 0, value: 'heir' }] })
        await second.commit()
      })
      const told = await first.commit().then(
        () => 'committed',
        error => error.type || error.message
      )
      check(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'].includes(told), true)
    })
    const reader = await member(`group-${topic}`, topic)
    await reader.read(1)
    check(reader.got[0].value, 'heir')
    await reader.leave()
  }

  return {
    'group, rebalance, resume': groupAndRebalance,
    'commits, seek, offsets of a group': commitsAndSeek,
    transactions,
    'a zombie is fenced': fencing,
  }
}
