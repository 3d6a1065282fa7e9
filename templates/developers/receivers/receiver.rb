# WEBHOOK_SECRET=whsec_... ruby receiver.rb    (gem install webrick)
require "base64"
require "json"
require "openssl"
require "webrick"

KEY = Base64.decode64(ENV.fetch("WEBHOOK_SECRET").delete_prefix("whsec_"))

def verified?(request, body)
  timestamp = request["webhook-timestamp"].to_s
  # An old message may have been sent again by somebody else.
  return false unless timestamp.match?(/\A\d+\z/) && (Time.now.to_i - timestamp.to_i).abs <= 300

  signature = OpenSSL::HMAC.digest("SHA256", KEY, "#{request['webhook-id']}.#{timestamp}.#{body}")
  expected = "v1,#{Base64.strict_encode64(signature)}"
  request["webhook-signature"].to_s.split.any? { |given| OpenSSL.secure_compare(expected, given) }
end

server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: ENV.fetch("PORT", "9000").to_i, AccessLog: [])
server.mount_proc("/") do |request, response|
  body = request.body.to_s
  if verified?(request, body)
    event = JSON.parse(body)
    puts "#{request['webhook-id']} #{event['type']} #{event['data']}"
    response.status = 204
  else
    response.status = 400
  end
end
server.start
