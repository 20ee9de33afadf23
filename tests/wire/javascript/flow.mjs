// The main flows of Polymarket's JavaScript clients against a paper exchange: URL and a market's two tokens are arguments.
// Prints one JSON object of what the clients understood.
import { ClobClient, OrderType, Side } from "@polymarket/clob-client-v2";
import { RealTimeDataClient } from "@polymarket/real-time-data-client";
import { createWalletClient, http } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const [url, up, down] = process.argv.slice(2);

async function client() {
  const signer = createWalletClient({ account: privateKeyToAccount(generatePrivateKey()), transport: http(url) });
  const creds = await new ClobClient({ host: url, chain: 137, signer }).createOrDeriveApiKey();
  return new ClobClient({ host: url, chain: 137, signer, creds, throwOnError: true });
}

function settlementPrice() {
  return new Promise((resolve) => {
    const feed = new RealTimeDataClient({
      host: url.replace("http", "ws") + "/rtds",
      autoReconnect: false,
      onConnect: (to) => to.subscribe({ subscriptions: [{ topic: "crypto_prices_chainlink", type: "*" }] }),
      onMessage: (_, message) => {
        if (message.topic === "crypto_prices_chainlink") {
          feed.disconnect();
          resolve(message);
        }
      },
    });
    feed.connect();
  });
}

const [maker, taker] = [await client(), await client()];
const tickSize = await maker.getTickSize(up);
const rested = await maker.createAndPostOrder({ tokenID: down, price: 0.5, side: Side.BUY, size: 20 }, { tickSize }, OrderType.GTC);
const open = await maker.getOpenOrders();
const book = await taker.getOrderBook(up);
const bought = await taker.createAndPostMarketOrder(
  { tokenID: up, amount: 5, price: 0.5, side: Side.BUY, orderType: OrderType.FAK }, { tickSize }, OrderType.FAK);
const cancelled = await maker.cancelOrder({ orderID: rested.orderID });
const trades = await taker.getTrades();
const price = await settlementPrice();
console.log(JSON.stringify({ tickSize, rested, open, book, bought, cancelled, trades, price }));
process.exit(0);
