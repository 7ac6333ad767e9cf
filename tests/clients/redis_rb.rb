# redis-rb against a server: ruby redis_rb.rb HOST PORT [--ringwood | --cluster]. Empties all databases. With --cluster each
# command goes through the next of three nodes.
require 'redis'

Redis.silence_deprecations = true if Redis.respond_to?(:silence_deprecations=)

# Counts checks; a failing one stops nothing else.
class Checks
  attr_reader :passed, :failed

  def initialize
    @passed = @failed = 0
  end

  # The block returns `want`: the same class, the same value.
  def eq(what, want, &call)
    that(what, "want #{want.inspect}", call) { |got| got.instance_of?(want.class) && got == want }
  end

  def that(what, complaint, call)
    got = call.call
    count(yield(got), "#{what}: #{complaint}, got #{got.inspect[0, 300]}")
  rescue StandardError => e
    count(false, "#{what}: #{complaint}, raised #{e.class}: #{e.message}")
  end

  def fails(what, kind, text)
    got = yield
    count(false, "#{what}: want #{kind}, got #{got.inspect}")
  rescue StandardError => e
    count(e.instance_of?(kind) && e.message.start_with?(text), "#{what}: want #{kind} #{text}, got #{e.class} #{e.message}")
  end

  def early(group, error)
    count(false, "#{group} ended early: #{error.class}: #{error.message}")
  end

  private

  def count(good, complaint)
    if good
      @passed += 1
    else
      @failed += 1
      warn "FAILED #{complaint}"
    end
  end
end

def texts(t, r)
  t.eq('set', 'OK') { r.set('k', 'v') }
  t.eq('get', 'v') { r.get('k') }
  t.eq('get missing', nil) { r.get('absent') }
  t.eq('set nx', false) { r.set('k', 'w', nx: true) }
  t.eq('set px', 'OK') { r.set('k', 'w', px: 100_000) }
  t.that('pttl', 'about 100 s', -> { r.pttl('k') }) { |got| got.between?(90_000, 100_000) }
  t.eq('set keepttl get', 'w') { r.set('k', 'x', keepttl: true, get: true) }
  t.eq('persist', true) { r.persist('k') }
  t.eq('ttl', -1) { r.ttl('k') }
  t.eq('append', 4) { r.append('k', 'yzz') }
  t.eq('getrange', 'yz') { r.getrange('k', 1, 2) }
  t.eq('strlen', 4) { r.strlen('k') }
  t.eq('getset', 'xyzz') { r.getset('k', 'new') }
  t.eq('getdel', 'new') { r.getdel('k') }
  t.eq('mset', 'OK') { r.mset('{t}a', 1, '{t}b', 2) }
  t.eq('mget', ['1', nil, '2']) { r.mget('{t}a', 'absent', '{t}b') }
  t.eq('mapped_mget', { '{t}a' => '1', '{t}b' => '2' }) { r.mapped_mget('{t}a', '{t}b') }
  t.eq('incr', 1) { r.incr('n') }
  t.eq('incrby', 42) { r.incrby('n', 41) }
  t.eq('decr', 41) { r.decr('n') }
  t.eq('incrbyfloat', 1.5) { r.incrbyfloat('f', 1.5) }
  t.eq('setbit', 0) { r.setbit('bits', 7, 1) }
  t.eq('bitcount', 1) { r.bitcount('bits') }
  binary = (0..255).to_a.pack('C*')
  t.eq('binary', binary) { r.set(binary, binary) && r.get(binary).b }
  t.eq('exists', 1) { r.exists('n', 'absent') }
  t.eq('exists?', true) { r.exists?('n') }
  t.eq('del', 1) { r.del('n', 'absent') }
  t.eq('type', 'string') { r.type('f') }
  t.eq('rename', 'OK') { r.rename('f', 'g') }
  t.eq('expire', true) { r.expire('g', 10) }
  t.fails('not a number', Redis::CommandError, 'ERR value is not an integer') { r.incr('g') }
  r.rpush('l', 'a')
  t.fails('another type', Redis::CommandError, 'WRONGTYPE') { r.get('l') }
end

def collections(t, r)
  t.eq('hset', 2) { r.hset('h', 'f', 'v', 'g', 1) }
  t.eq('hget', 'v') { r.hget('h', 'f') }
  t.eq('hmget', ['v', nil]) { r.hmget('h', 'f', 'x') }
  t.eq('hincrby', 5) { r.hincrby('h', 'g', 4) }
  t.eq('hgetall', { 'f' => 'v', 'g' => '5' }) { r.hgetall('h').sort.to_h }
  t.eq('hdel', 1) { r.hdel('h', 'f') }
  t.eq('hscan', [['g', '5']]) { r.hscan_each('h').to_a }
  t.eq('rpush', 3) { r.rpush('list', %w[a b c]) }
  t.eq('lpush', 4) { r.lpush('list', 'z') }
  t.eq('lrange', %w[z a b c]) { r.lrange('list', 0, -1) }
  t.eq('lpop', 'z') { r.lpop('list') }
  t.eq('rpop', %w[c b]) { r.rpop('list', 2) }
  t.eq('blpop', %w[list a]) { r.blpop('list', timeout: 1) }
  t.eq('blpop of nothing', nil) { r.blpop('list', timeout: 0.1) }
  t.eq('sadd', 3) { r.sadd('s', %w[a b c]) }
  t.eq('sismember', true) { r.sismember('s', 'b') }
  t.eq('srem', 1) { r.srem('s', ['b']) }
  t.eq('smembers', %w[a c]) { r.smembers('s').sort }
  t.eq('zadd', 2) { r.zadd('z', [[1.5, 'a'], [2, 'b']]) }
  t.eq('zscore', 1.5) { r.zscore('z', 'a') }
  t.eq('zincrby', 3.5) { r.zincrby('z', 2, 'a') }
  t.eq('zrange', [['b', 2.0], ['a', 3.5]]) { r.zrange('z', 0, -1, with_scores: true) }
  t.eq('zrangebyscore', %w[b]) { r.zrangebyscore('z', '-inf', '(3.5') }
  t.eq('zpopmin', ['b', 2.0]) { r.zpopmin('z') }
  t.eq('xadd', '5-1') { r.xadd('x', { 'f' => 'v' }, id: '5-1') }
  t.eq('xrange', [['5-1', { 'f' => 'v' }]]) { r.xrange('x') }
  t.eq('xgroup', 'OK') { r.xgroup(:create, 'x', 'g', '0') }
  t.eq('xreadgroup', { 'x' => [['5-1', { 'f' => 'v' }]] }) { r.xreadgroup('g', 'c', 'x', '>') }
  t.eq('xack', 1) { r.xack('x', 'g', '5-1') }
  t.eq('pfadd', true) { r.pfadd('p', %w[a b]) }
  t.eq('pfcount', 2) { r.pfcount('p') }
  t.eq('geoadd', 1) { r.geoadd('geo', 13.361389, 38.115556, 'Palermo') }
end

def together(t, r)
  t.eq('multi', ['OK', 2, '2']) do
    r.multi do |m|
      m.set('{m}a', 1)
      m.incr('{m}a')
      m.get('{m}a')
    end
  end
  t.eq('pipelined', ['OK', 'x', nil]) do
    r.pipelined do |p|
      p.set('{m}b', 'x')
      p.get('{m}b')
      p.get('absent')
    end
  end
  t.eq('watch', ['OK']) { r.watch('{m}a') { |one| one.multi { |m| m.set('{m}a', 'mine') } } }
  t.eq('eval', ['{m}b', 'w']) { r.eval('return {KEYS[1], ARGV[1]}', ['{m}b'], ['w']) }
  t.eq('evalsha', 7) { r.evalsha(r.script(:load, 'return 7')) }
  t.fails('no script', Redis::CommandError, 'NOSCRIPT') { r.evalsha('f' * 40) }
  heard = Queue.new
  listener = Thread.new do
    r.subscribe_with_timeout(5, 'news') do |on|
      on.subscribe { heard << 'listens' }
      on.message { |_, message| heard << message }
    end
  rescue Redis::BaseError
    heard << 'gone'
  end
  t.eq('subscribe', 'listens') { heard.pop }
  t.eq('publish', 1) { r.publish('news', 'hello') }
  t.eq('a message', 'hello') { heard.pop }
  listener.kill
  500.times { |n| r.set("scan:#{n}", n) }
  t.eq('scan_each', 500) { r.scan_each(match: 'scan:*', count: 50).to_a.uniq.size }
  t.eq('keys', 111) { r.keys('scan:1*').size }
  t.eq('info', '7.0.15') { r.info['redis_version'] }
  t.eq('ping', 'PONG') { r.ping }
  t.eq('call', %w[x]) { r.call('SIBLINGS', '{m}b').last } if ARGV.intersect?(%w[--ringwood --cluster])
end

# Each command through the next node; a block of commands, or a subscription, through one.
class Nodes < BasicObject
  def initialize(nodes)
    @nodes = nodes
    @next = 0
  end

  def method_missing(name, *words, **options, &block)
    @next += 1
    node = @nodes[@next % @nodes.size]
    node = node.dup if name == :subscribe_with_timeout
    node.public_send(name, *words, **options, &block)
  end

  def respond_to_missing?(*)
    true
  end
end

host, port = ARGV
hosts = ARGV.include?('--cluster') ? %w[127.0.0.1 127.0.0.2 127.0.0.3] : [host]
nodes = hosts.map { |one| Redis.new(host: one, port: Integer(port), timeout: 5) }
t = Checks.new
%i[texts collections together].each do |group|
  nodes.first.flushall
  send(group, t, Nodes.new(nodes))
rescue StandardError => e
  t.early(group, e)
end
puts "redis_rb: #{t.passed} passed, #{t.failed} failed"
exit(t.failed.zero?)
