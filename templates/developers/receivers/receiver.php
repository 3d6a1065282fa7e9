<?php
// WEBHOOK_SECRET=whsec_... php -S 127.0.0.1:9000 receiver.php

function verify(string $secret, array $headers, string $body): bool
{
    $key = base64_decode(str_replace('whsec_', '', $secret));
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false; // an old message, perhaps sent again by somebody else
    }
    $signed = ($headers['webhook-id'] ?? '') . '.' . $timestamp . '.' . $body;
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
    foreach (explode(' ', $headers['webhook-signature'] ?? '') as $given) {
        if (hash_equals($expected, $given)) {
            return true;
        }
    }
    return false;
}

$body = file_get_contents('php://input');
$headers = array_change_key_case(getallheaders());
if (!verify(getenv('WEBHOOK_SECRET'), $headers, $body)) {
    http_response_code(400);
    exit;
}
$event = json_decode($body, true);
error_log($headers['webhook-id'] . ' ' . $event['type'] . ' ' . json_encode($event['data']));
http_response_code(204);
