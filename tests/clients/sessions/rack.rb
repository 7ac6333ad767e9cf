# Rack's sessions in redis-rack, on redis-rb: rack.rb PORT HOST:PORT
require 'json'
require 'rack'
require 'rack/session/redis'
require 'webrick'
begin
  require 'rackup' # Rack 3 has its handlers there.
rescue LoadError
  nil
end

port, node = ARGV
visit = lambda do |env|
  session = env['rack.session']
  session['visits'] = (session['visits'] || 0) + 1
  [200, { 'Content-Type' => 'application/json' }, [JSON.generate(visits: session['visits'])]]
end
app = Rack::Builder.new do
  use(Class.new do
    def initialize(app) = @app = app

    def call(env)
      @app.call(env)
    rescue StandardError => e
      [500, {}, [e.message]]
    end
  end)
  use Rack::Session::Redis, redis_server: "redis://#{node}/0/rack:session"
  run visit
end
quiet = { Logger: WEBrick::Log.new(File::NULL), AccessLog: [] }
(defined?(Rackup::Handler) ? Rackup::Handler::WEBrick : Rack::Handler::WEBrick).run(app, Host: '127.0.0.1', Port: Integer(port), **quiet)
