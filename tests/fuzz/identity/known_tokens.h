/* A key set and tokens that its private keys signed before they were thrown away. They are good until 2100. */
#ifndef TESTS_FUZZ_IDENTITY_KNOWN_TOKENS_H
#define TESTS_FUZZ_IDENTITY_KNOWN_TOKENS_H

#define KNOWN_ISSUER "https://issuer.test"
#define KNOWN_JWKS \
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"rsa\",\"n\":\"svC3T9QVNm5MEIEacOZwIkqeJl_MbCzQlNVf-eYpsmtinniRZG_nI7w2gstIp" \
    "ZquShcpID-o__GrzsrRXXcT04SjCWJ9xImT8JE6sSSvOLIKK-dDPJ7gNsUIH1IV7Bjlz8Lyelyd3MbLZBg1Mniot_PgJp66y1Ryt" \
    "pgByQZKn7lKitTIzZc4H4GqgQPkQKaDyewv9eK71vwjPBySyNJkpP73w3fWm0eqI8KCGEPoIBOTEOcDjE2UrDvSG0iw7NgtIivXV" \
    "YVKJpJaOafcd8i6xlXVaoI7w6_i6pNN3dSgECPhIfCaZlte71u1fT8q6SR_hBI5w6G4iwz7CRNZQspWew\",\"e\":\"AQAB\"},{\"kty" \
    "\":\"EC\",\"kid\":\"p256\",\"crv\":\"P-256\",\"alg\":\"ES256\",\"x\":\"DGNee-zFjnvWhBo7voE3k2mKC7mBaS8dM776YLCSjRY\",\"y" \
    "\":\"WPyhNTxJVeIAFkGCGQS-NiOjnpTzeMqkqtrr4C6tDt0\"},{\"kty\":\"EC\",\"kid\":\"p384\",\"crv\":\"P-384\",\"x\":\"zYcfOht" \
    "bs8evqCI43wlpuCCrDAS1ApX97mozBBL_FKpWPcxdJFsl3teSjJI84az4\",\"y\":\"HfIBGuZkuCCZH52kQbcz9-M_FdmTx233RIL0" \
    "KsqA77jVWqL55Ea5OoB5yx6P3tU8\"},{\"kty\":\"OKP\",\"kid\":\"ed\",\"crv\":\"Ed25519\",\"x\":\"enCq0bzkz25Y8xoehbPG-GA7" \
    "arcNT4BsvV_ilrWCATw\"}]}"

static const char *const known_tokens[] __attribute__((unused)) = {
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjo"
    "iaW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.QEJL4ud-QOqIx44iFX5"
    "FyeUwKrgvJrii_mzaJFYjl5y8VkQqSFkS7jMZ0y2ILa_yQUC6S21ypVJ0taOhaEIghtCeBXojIxb91gn7i_-jBWDTkyycBULsQ7d"
    "rCVp_UsJnRc9BvBxiQrv6i6Oj3cEyLry7pKWTPPoM82zRc55FCz0DAFSWMJDA8f3McH-R9nSLxX5qkG_KYRcaPJn1q3lU9uGGwxc"
    "AudHxRQX1ZfHsh34ADg6gh8vg0ErTtbuhloRxWtFh-sAfCrly3h6Kt71oV1Nl2QKmxo3vohTEoNxx2erp6ymQ-GfJTi9ygG_3CAI"
    "2EIxKZgiAUGs06ZTOFUe2fQ",
    "eyJhbGciOiJSUzUxMiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjo"
    "iaW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.A1tutSULoPCIA8b2NgJ"
    "qCy1s-tBcz6g9XTgztZraH0TShFMYLds8gpGItvWeixIqTViIbXOIssWb3C1J5px6nqKps0FjtSIT33VOonggiZd73RNZKQdOY95"
    "QSG4fKkv5PTrS-B_q-GkGyl1LyjfCU8614oes9z7Knab22yVEWUouRAWy1k6Xsx0Dk05IcKrYUCCXeiroaSzV8UaJzyFYL6ldIbN"
    "ntWfeR0xZm5KEDsHB_97VWWv0oh_hsnPeTJxw_FzX4TyuTcw11BN9g0ilFLm9mfTyFrayBDDUZGH4edozdAEdE-6Sui-4pvi9YZW"
    "WhhqWy3wHBIQ6UHwKm1gNqw",
    "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjo"
    "iaW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.i_ohZz3icaAkZ_xLeq1"
    "HeygQqpZpybOf7zINkKCubzdtow3FHeGwxC3u_LU-dtRWnVHgeM5AiPh-oM0hvInVaVJ1euLA9OAO8wV6992DjxOzFFG65qGGI8J"
    "9mnxC0a0JSRJktz3eZKlhTW6Ygjqk45mqf3M4BGyytl9pUUuj2MpUt-JPvgyHYoALm7chStKotYlIkywbxrw7eAyKG5UaeHUTEDI"
    "_rpfeODXvcUgY0-PiMQDD_dfs04JsHT-8ofKPc7tv7PODKSkqxd-ImPjMd4xz0UKqidO5exgA2q3ZW1cS_vkE4DF66CUpOYLjddp"
    "uvTN02jjyhYIS8RiD_Csg5Q",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkI"
    "joiaW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.JdLdkwo5gsjK2ybyv"
    "JRmPy3YEHWoHAAZCO2ileiZE5rDz9o7bkX86hyXCTf5LvDNTWInP20jpn9XIFhyWuxjhA",
    "eyJhbGciOiJFUzM4NCIsImtpZCI6InAzODQiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkI"
    "joiaW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.6zDaNufyzJuacF1R0"
    "-HoDweeiMacM4JJWjS1CXAu06_TCqZsM5V5_R-k7Dhyg0ZIAJUDT7S44b3Rc8rf6jz4ZH0130xCEEpEc7ti4mrTJPoyAYRFjlTl0"
    "YrUZFIUYke3",
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoi"
    "aW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.8PStztHZdB3HC6J1PKpL"
    "qf4GsSpW1uIGaEosX5gF1k_rE73piDgOPZli5sMMScUB88XNsysLOLA5i5pcX97RDg",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiY"
    "XVkIjoiaW5mZXJlbmNlIiwic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.h_vC_OI4c8-8c"
    "qXuXij56iiCPsskmovlTYRknxqQBZ82IYcUegzI_FlUsXTnuWNDi11_T1kHzssU6RxM60qigQ",
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoiaW5mZXJlbmNlIiw"
    "ic3ViIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMH0.ivztPbXE68-N6qigJXVoKuG1mIfDdeCdX1i"
    "wUPgUvOZphRZF1MLLasXI3LqTCI_f0Dx_rBh2xmUXVTNNk5PFsA",
};

#endif
